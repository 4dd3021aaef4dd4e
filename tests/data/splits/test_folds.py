"""Folds: shares of every class, whole patients, files of two formats, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.core.errors import DataError
from medseg.data.cases.dataset import read_dataset
from medseg.data.splits.folds import make_folds, read_folds
from medseg.data.splits.patients import find_patients, found_table, said_patients
from medseg.data.splits.split import decide_split

NAMES = [f"case_{number:02d}" for number in range(20)]


def classes(rare: int = 5) -> dict[str, frozenset[str]]:
    """Everybody has a liver, the first `rare` cases a tumour."""
    return {name: frozenset({"liver", "tumour"} if n < rare else {"liver"}) for n, name in enumerate(NAMES)}


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_holds_out_its_share_of_every_class(seed: int) -> None:
    made = make_folds(classes(), {}, 5, seed)
    assert sorted(case for fold in made.folds for case in fold.validation) == NAMES
    for fold in made.folds:
        assert len(fold.validation) == 4
        assert len([case for case in fold.validation if "tumour" in classes()[case]]) == 1
        assert sorted(fold.training + fold.validation) == NAMES
    assert made.notes == ()
    assert made == make_folds(dict(reversed(classes().items())), {}, 5, seed)
    assert made != make_folds(classes(), {}, 5, seed + 1)


def test_a_patient_never_stands_in_two_folds() -> None:
    patients = {name: f"patient_{n // 3}" for n, name in enumerate(NAMES)}
    for fold in make_folds(classes(), patients, 3, 0).folds:
        assert not {patients[case] for case in fold.training} & {patients[case] for case in fold.validation}
        assert 5 <= len(fold.validation) <= 8


def test_says_which_class_a_fold_lacks_and_why() -> None:
    made = make_folds(classes(rare=1), {}, 4, 0)
    (number,) = (n for n, fold in enumerate(made.folds) if NAMES[0] in fold.validation)
    others = ", ".join(str(n) for n in range(4) if n != number)
    assert made.notes == (
        f"fold {number} trains without the class 'tumour': only 1 patient has it",
        f"fold {others} holds out no case with 'tumour': 1 patient(s) have it",
    )


def test_more_folds_than_patients() -> None:
    with pytest.raises(DataError, match=r"5 folds of 2 patient\(s\)\n    -> set folds to 2"):
        make_folds(classes(), {name: "ab"[name[-1] > "4"] for name in NAMES}, 5, 0)


def test_written_and_read_again(tmp_path: Path) -> None:
    patients = {name: name[:6] for name in NAMES}
    made = make_folds(classes(rare=1), patients, 2, 3)
    file = tmp_path / "splits.json"
    file.write_text(made.to_json())
    assert read_folds(file, NAMES) == made


def test_reads_the_file_of_nnunet(tmp_path: Path) -> None:
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps([{"train": NAMES[5:], "val": NAMES[:5]}, {"train": NAMES[:5], "val": NAMES[5:10]}]))
    read = read_folds(file, NAMES)
    assert read.fold(0).validation == tuple(NAMES[:5])
    assert "10 cases are held out in no fold" in read.notes[0]
    with pytest.raises(DataError, match="there is no fold 2: 2 folds"):
        read.fold(2)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"train": ["case_01"], "val": ["case_99"]}, "no case 'case_99' in the data set\n    -> did you mean"),
        ({"train": ["case_01", "case_02"], "val": ["case_02"]}, "trains on cases that it holds out: case_02"),
        ({"train": ["case_01"], "val": ["case_01b"]}, "no case 'case_01b'"),
        ({"train": [], "val": ["case_02"]}, "train is empty"),
        ({"train": ["case_01", "case_01"], "val": ["case_02"]}, "train names case_01 twice"),
        ({"train": ["case_01"]}, "folds.0.val: holds no folds: Field required"),
        ("case_01", "holds no folds"),
    ],
)
def test_refuses_a_file_that_cannot_be_right(tmp_path: Path, entry: object, message: str) -> None:
    file = tmp_path / "splits.json"
    file.write_text(json.dumps([entry]))
    with pytest.raises(DataError) as caught:
        read_folds(file, NAMES)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_refuses_folds_that_divide_a_patient(tmp_path: Path) -> None:
    file = tmp_path / "splits.json"
    file.write_text(json.dumps([{"train": ["case_01"], "val": ["case_02"]}]))
    with pytest.raises(DataError, match="the same patients in both parts: case_0"):
        read_folds(file, NAMES, {name: name[:6] for name in NAMES})


def test_patients_by_pattern_and_by_table(tmp_path: Path) -> None:
    names = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    assert find_patients(names, r"sub-\d+", None) == dict(zip(names, ["sub-01", "sub-01", "sub-02"], strict=True))
    assert find_patients(names, r"sub-(\d+)", None)["sub-02_ses-1"] == "02"
    assert find_patients(names, None, None) == {}
    table = tmp_path / "patients.tsv"
    table.write_text("case\tpatient\tage\nsub-01_ses-1\tA\t3\nsub-01_ses-2\tA\t4\nsub-02_ses-1\tB\t5\n")
    assert find_patients(names, None, str(table)) == dict(zip(names, "AAB", strict=True))
    with pytest.raises(DataError, match=r"says of 1 cases no patient: healthy"):
        find_patients([*names, "healthy"], r"sub-\d+", None)
    assert said_patients([*names, "healthy"], r"sub-\d+", None).keys() == set(names)
    assert said_patients([*names, "healthy"], None, str(table))["sub-02_ses-1"] == "B"
    table.write_text("name,patient\na,b\n")
    with pytest.raises(DataError, match=r"has the columns name, patient\n    -> expected the columns case and patient"):
        find_patients(names, None, str(table))


def test_a_table_beside_the_data_is_found_or_it_is_said_why_not(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    assert found_table(tmp_path, names) == (None, "")
    table = tmp_path / "patients.csv"
    table.write_text("case,patient,age\na,1,3\nb,1,4\nc,2,5\nheld_out,3,1\n")
    assert found_table(tmp_path, names) == (table, "patients.csv lies with the data: 2 patients")
    why = "patients.csv is not taken: it "
    assert found_table(tmp_path, [*names, "d"]) == (None, why + "says of 1 cases no patient: d")
    table.write_text("case,institution\na,CS\n")
    assert found_table(tmp_path, names) == (None, why + "has the columns case, institution")
    table.write_bytes(b"\xff\xfe\x00")
    assert found_table(tmp_path, names)[1].startswith(why + "cannot be read: ")
    table.rename(tmp_path / "patients.tsv").write_text("case\tpatient\na\t1\nb\t2\nc\t2\n")
    assert found_table(tmp_path, names)[0] == tmp_path / "patients.tsv"


def test_a_random_split_divides_no_patient(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root, table = tiny_msd(cases=8), tmp_path / "patients.csv"
    patients = {f"tiny_{number:02d}": f"p{number // 3}" for number in range(8)}
    table.write_text("case,patient\n" + "".join(f"{case},{who}\n" for case, who in patients.items()))
    for seed in range(4):
        options = {"seed": seed, "validation": 0.3, "patient_table": str(table)}
        dataset = read_dataset(root)
        split = decide_split(dataset, labels=dataset.labels, **options)
        parts = [set(split.training), set(split.validation)]
        assert parts[0] | parts[1] == set(patients)
        assert not {patients[case] for case in parts[0]} & {patients[case] for case in parts[1]}
        assert len(parts[1]) in (2, 3)
