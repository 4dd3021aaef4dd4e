"""A case, and the one border at which it becomes a dictionary."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import DataError
from medseg.data.cases.case import Case, as_cases
from medseg.data.cases.dataset import read_dataset
from medseg.data.training.cache import CachedDataset
from medseg.data.training.transforms import preprocessing
from medseg.engine.evaluator import CaseDataset, Failure


def save(path: Path, *shape: int) -> str:
    nib.save(nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), np.eye(4)), path)
    return str(path)


@pytest.mark.parametrize(
    "case",
    [
        Case("a", ("a.nii.gz",)),
        Case("a", ("a.nii.gz",), "label.nii.gz"),
        Case("a", ("a_0000.nii.gz", "a_0001.nii.gz"), "label.nii.gz"),
    ],
)
def test_an_entry_and_back(case: Case) -> None:
    assert Case.from_entry(case.entry()) == case
    assert Case.from_entry(case) is case
    assert pickle.loads(pickle.dumps(case)) == case
    assert isinstance(case.entry()["image"], str) == (len(case.images) == 1), "MONAI stacks what is a list"
    assert ("label" in case.entry()) == (case.label is not None)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"image": "in/scan.nii.gz", "label": "l/scan.nii.gz"}, Case("scan", ("in/scan.nii.gz",), "l/scan.nii.gz")),
        ({"image": ["a_0000.nii", "a_0001.nii"]}, Case("a", ("a_0000.nii", "a_0001.nii"))),
        ({"image": Path("a.png"), "label": None, "fold": 2}, Case("a", ("a.png",))),
        ({"image": "a.nii", "case": 7, "patient": "p"}, Case("7", ("a.nii",), None, "p")),
    ],
)
def test_entries_of_a_data_list_of_monai(entry: dict[str, Any], expected: Case) -> None:
    assert Case.from_entry(entry) == expected


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"label": "l.nii"}, "l.nii.*has the image None"),
        ({"image": []}, r"has the image \[\]"),
        ({"image": ["a.nii", 3]}, "has the image .*3"),
        ({"image": ""}, "has the image ''"),
        ({"image": "a.nii", "label": ["l.nii"]}, "has the label .*l.nii"),
        ({"image": "a.nii", "case": "../a"}, "is called '../a'"),
    ],
)
def test_an_entry_that_is_no_case_is_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Case.from_entry(entry)
    with pytest.raises(DataError) as caught:
        as_cases([entry, {"image": "good.nii"}, entry])
    assert len(caught.value.problems) == 2
    assert all(problem.remedy for problem in caught.value.problems)


def test_what_callers_ask_of_a_case(tmp_path: Path) -> None:
    one = Case("a", (save(tmp_path / "a.nii", 3, 4, 5, 2),), save(tmp_path / "l.nii", 3, 4, 5))
    assert (one.first, one.files) == (one.images[0], (*one.images, one.label))
    assert one.read_image().array.shape == (2, 3, 4, 5)
    assert one.read_label().array.shape == (1, 3, 4, 5)
    files = tuple(save(tmp_path / f"b_000{n}.nii", 3, 4, 5) for n in range(3))
    several = Case("b", files)
    assert several.read_image().array.shape == (3, 3, 4, 5)
    assert several.files == files
    with pytest.raises(DataError, match="b: has no label"):
        several.read_label()
    assert not several.is_picture
    assert Case("c", ("c.png",)).is_picture


def test_the_loaders_take_cases_and_entries_alike(tmp_path: Path) -> None:
    case = Case("x", (save(tmp_path / "a.nii", 3, 4, 5),), save(tmp_path / "l.nii", 3, 4, 5))
    gone = Case("y", (str(tmp_path / "gone.nii"),))
    for data in ([case, gone], [case.entry(), gone.entry()]):
        cached = CachedDataset(data, preprocessing(), tmp_path / "cache")
        assert cached.data == [case, gone]
        assert cached[0]["image"].meta["filename_or_obj"] == case.first
        whole = CaseDataset(data, preprocessing())
        item, failure = whole[0], whole[1]
        assert isinstance(item, dict)
        assert [item[key] for key in ("case", "image_path", "label_path")] == ["x", case.first, case.label]
        assert isinstance(failure, Failure)
        assert failure.case == "y"
    assert len(list((tmp_path / "cache").glob("*.json"))) == 1, "both ways find the same entry of the cache"


def test_patients_follow_from_the_cases(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", 2, 2, 2)
    rows = ["case,patient,image,label", "a1,a,a.nii,a.nii", "a2,a,a.nii,a.nii", "b,b,a.nii,"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    dataset = read_dataset(tmp_path / "list.csv")
    assert [case.patient for case in (*dataset.cases, *dataset.unlabelled)] == ["a", "a", "b"]
    assert dataset.patients == {"a1": "a", "a2": "a", "b": "b"}
