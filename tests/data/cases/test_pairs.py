"""Folders of pictures and masks: which layout, which split, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.core.errors import DataError
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import read_dataset
from medseg.data.splits.split import decide_split


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.zeros((4, 6), np.uint8)).save(path)


def names(cases: Iterable[Case]) -> list[str]:
    return [case.name for case in cases]


@pytest.mark.parametrize(
    ("folder", "layout", "sizes"),
    [
        ("CamVid", "camvid", {"train": 367, "val": 101}),
        ("VOCdevkit_sample", "voc", None),
        ("VOCdevkit_sample/VOC2012", "voc", None),
        ("cityscapes_sample", "cityscapes", {"val": 1}),
        ("ADEChallengeData2016_sample", "ade20k", {"val": 3}),
    ],
)
def test_public_data_sets_are_recognised(test_data: Path, folder: str, layout: str, sizes: dict | None) -> None:
    dataset = read_dataset(test_data / folder)
    assert dataset.layout == layout
    found = {name: len(cases) for name, cases in dataset.splits.items()}
    if sizes is None:
        lists = (test_data / "VOCdevkit_sample/VOC2012/ImageSets/Segmentation").glob("*.txt")
        sizes = {file.stem: len(file.read_text().split()) for file in lists}
    assert found == sizes
    assert all(Path(case.label).stem.startswith(case.name) for case in dataset.cases)


def test_the_official_split_wins_over_a_random_one(test_data: Path) -> None:
    root = test_data / "CamVid"
    dataset = read_dataset(root)
    held_out = decide_split(dataset, labels=dataset.labels, validation=0.5, seed=3).cases(dataset, "validation")
    assert sorted(Path(case.first).name for case in held_out) == sorted(f.name for f in (root / "val").iterdir())
    swapped = decide_split(dataset, labels=dataset.labels, official={"training": "val"})
    assert list(swapped.training) == names(held_out)
    with pytest.raises(DataError, match=r"(?s)no labelled case in a split 'test'.*train \(367\), val \(101\)"):
        decide_split(dataset, labels=dataset.labels, official={"validation": "test"})


@pytest.mark.parametrize(
    "pattern",
    ["images/{split}/{name}.png labels/{split}/{name}.png", "{split}/images/{name}.png {split}/masks/{name}_mask.png"],
)
def test_folders_with_splits(tmp_path: Path, pattern: str) -> None:
    for split, count in (("train", 3), ("validation", 2)):
        for number in range(count):
            draw(*(tmp_path / path.format(split=split, name=f"{split}{number}") for path in pattern.split()))
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "pairs"
    assert {name: names(cases) for name, cases in dataset.splits.items()} == {
        "train": ["train0", "train1", "train2"],
        "val": ["validation0", "validation1"],
    }


def test_one_name_in_two_splits_is_two_cases(tmp_path: Path) -> None:
    for split in ("train", "val"):
        draw(tmp_path / f"images/{split}/0001.png", tmp_path / f"masks/{split}/0001.png")
    splits = read_dataset(tmp_path).splits
    assert {name: names(cases) for name, cases in splits.items()} == {"train": ["train_0001"], "val": ["val_0001"]}
    assert len({case.name for case in read_dataset(tmp_path).cases}) == 2


def test_a_folder_without_splits_is_split_at_random(tmp_path: Path) -> None:
    for number in range(6):
        draw(tmp_path / f"images/{number}.jpg", tmp_path / f"annotations/{number}_gt.tif")
    dataset = read_dataset(tmp_path)
    assert not dataset.splits
    split = decide_split(dataset, labels=dataset.labels, validation=0.5)
    training, held_out = set(split.training), set(split.validation)
    assert len(training) == len(held_out) == 3
    assert not training & held_out


def test_list_files(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"a/{number}.png", tmp_path / f"b/{number}_x.png")
    (tmp_path / "train.txt").write_text("a/0.png b/0_x.png\n/a/1.png,b/1_x.png\n\n")
    (tmp_path / "val.txt").write_text("a/2.png\tb/2_x.png\n")
    splits = read_dataset(tmp_path).splits
    assert {name: names(cases) for name, cases in splits.items()} == {"train": ["0", "1"], "val": ["2"]}
    (tmp_path / "val.txt").write_text("a/2.png b/2_x.png 7\na/9.png b/2_x.png\n")
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    assert "val.txt:1" in str(caught.value)
    assert "9.png: no such file" in str(caught.value)


def test_lists_of_names(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"images/{number}.jpg", tmp_path / f"labels/{number}.png")
    (tmp_path / "train.txt").write_text("0\n1\n")
    (tmp_path / "val.txt").write_text("2\n")
    splits = read_dataset(tmp_path).splits
    assert {name: names(cases) for name, cases in splits.items()} == {"train": ["0", "1"], "val": ["2"]}
    assert splits["val"][0].label == str(tmp_path / "labels/2.png")


def test_what_is_missing_is_named_at_once(tmp_path: Path) -> None:
    draw(tmp_path / "train/a.jpg", tmp_path / "train/b.jpg", tmp_path / "trainannot/c.png", tmp_path / "test/d.jpg")
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    assert len(caught.value.problems) == 2
    assert "trainannot/a.png" in str(caught.value)
    draw(tmp_path / "trainannot/a.png", tmp_path / "trainannot/b.png")
    dataset = read_dataset(tmp_path)
    assert names(dataset.unlabelled) == ["d"]
    with pytest.raises(DataError, match="looks like the layout 'camvid'"):
        read_dataset(tmp_path, "voc")


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset\.json"):
        read_dataset(tmp_path)
