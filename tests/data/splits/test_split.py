"""The split of a run: decided once by rules, kept, and asked from then on."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.core.errors import DataError, RunError
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset, read_dataset
from medseg.data.splits.split import Split, decide_split, find_split, read_split, share

LABELS = Labels({"background": 0, "lesion": 1})


def dataset(count: int = 10, **splits: tuple[int, ...]) -> Dataset:
    cases = tuple(Case(f"case{number:02d}", ("image.nii",), "label.nii") for number in range(count))
    lists = {name: tuple(cases[number] for number in numbers) for name, numbers in splits.items()}
    return Dataset(Path("data"), "msd", "data", ("MR",), LABELS, cases, (), lists)


def test_a_share_knows_no_order() -> None:
    names = [f"case{number:03d}" for number in range(50)]
    training, validation = share(names, 0.2, seed=3)
    assert share(random.Random(1).sample(names, 50), 0.2, seed=3) == (training, validation)
    assert len(validation) == 10
    assert sorted(training + validation) == names
    assert share(names, 0.2, seed=4)[1] != validation
    assert [len(part) for part in share(names[:2], 0.01, 0)] == [1, 1]
    assert [len(part) for part in share(names[:2], 1.0, 0)] == [1, 1]
    with pytest.raises(DataError, match="split"):
        share(names[:1], 0.2, 0)


def test_what_is_scored_where_nothing_is_held_out() -> None:
    data = dataset(3)
    split = decide_split(data, labels=LABELS, validation=0)
    assert (split.training, split.validation) == (("case00", "case01", "case02"), ())
    assert split.cases(data, split.scored) == list(data.cases)


def test_official_lists_win_and_keep_their_order() -> None:
    data = dataset(6, train=(3, 0), val=(4, 1), test=(5,))
    split = decide_split(data, labels=LABELS, validation=0.5)
    assert [case.name for case in split.cases(data, "training")] == ["case03", "case00"]
    assert split.test == ("case05",)
    assert split.why == "official lists: train, val, test"
    other = decide_split(data, labels=LABELS, official={"validation": "test"})
    assert (other.validation, other.test) == (("case05",), ())


def test_kept_once_and_never_drawn_again(tmp_path: Path) -> None:
    """More cases in the data set later: those that were trained on are not suddenly held out."""
    file, data = tmp_path / "split.json", dataset(10)
    first = find_split(data, file, labels=LABELS, keep=True, seed=1)
    assert first == read_split(file) == find_split(dataset(20), file, labels=LABELS, seed=1)
    assert decide_split(dataset(20), labels=LABELS, seed=1) != first
    assert [case.name for case in first.cases(dataset(20), "validation")] == list(first.validation)
    fewer = replace(data, cases=tuple(case for case in data.cases if case.name != first.validation[0]))
    with pytest.raises(DataError, match=f"lacks 1 of the 2 cases of the run's validation: {first.validation[0]}"):
        first.cases(fewer, "validation")


def test_nothing_is_written_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    find_split(dataset(), tmp_path / "split.json", labels=LABELS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", ["", "[]", '{"schema": "medseg-split/2"}', '{"schema": "medseg-split/1", "why": "", "training": "a"}']
)
def test_a_damaged_file_is_no_reason_to_draw_again(tmp_path: Path, content: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(RunError, match="holds no split"):
        find_split(dataset(), tmp_path / "split.json", labels=LABELS)


def test_a_fold_is_a_split(tiny_msd: Callable[..., Path]) -> None:
    data = read_dataset(tiny_msd(cases=6))
    splits = [decide_split(data, labels=data.labels, fold=number, folds=3) for number in range(3)]
    assert sorted(name for split in splits for name in split.validation) == [case.name for case in data.cases]
    assert splits[1].why == "fold 1 of 3"
    with pytest.raises(DataError, match="there is no fold 3"):
        decide_split(data, labels=data.labels, fold=3, folds=3)


def test_written_as_json(tmp_path: Path) -> None:
    split = Split(("a",), ("b",), ("c",), "by hand", {"training": "train"})
    (tmp_path / "split.json").write_text(split.to_json())
    assert read_split(tmp_path / "split.json") == split
    assert json.loads(split.to_json())["schema"] == "medseg-split/1"


def write_lists(root: Path, **lists: str) -> Dataset:
    """Pictures in folders of lists, each named by a letter."""
    for name, letters in lists.items():
        for letter in letters:
            for kind in ("images", "masks"):
                file = root / kind / name / f"{letter}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.zeros((4, 4), np.uint8)).save(file)
    return read_dataset(root)


def test_a_namesake_in_another_list_changes_nothing_for_a_run_that_is_there(tmp_path: Path) -> None:
    before = write_lists(tmp_path, train="acz", val="bx")
    split = decide_split(before, labels=LABELS)
    assert (split.training, split.validation) == (("a", "c", "z"), ("b", "x"))
    after = write_lists(tmp_path, val="ac", train="b")
    assert {"train_a", "train_b", "val_a", "val_b"} <= {case.name for case in after.cases}
    for part in ("training", "validation"):
        assert split.cases(after, part) == split.cases(before, part), "the same pictures, under the same names"
    later = decide_split(after, labels=LABELS)
    (tmp_path / "images" / "val" / "c.png").unlink()
    (tmp_path / "masks" / "val" / "c.png").unlink()
    again = read_dataset(tmp_path)
    assert "c" in {case.name for case in again.cases}
    assert later.cases(again, "training") == later.cases(after, "training")
    with pytest.raises(DataError, match="lacks 1 of the 4 cases of the run's validation: val_c"):
        later.cases(again, "validation")


def test_a_picture_that_is_named_as_another_would_be_is_another(tmp_path: Path) -> None:
    split = decide_split(write_lists(tmp_path, train="a", val="b"), labels=LABELS)
    for kind in ("images", "masks"):
        shutil.copy(tmp_path / kind / "train" / "a.png", tmp_path / kind / "train" / "train_a.png")
    assert [case.name for case in split.cases(read_dataset(tmp_path), "training")] == ["a"]
