"""To nnU-Net and back: what it needs of us is there, and what it wrote is scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from medseg.data.cases.dataset import read_dataset
from medseg.data.splits.folds import find_folds, read_folds
from medseg.workflows.score import score
from tests.corpus.labels import CLASSES, ball, nnunet, save
from tests.corpus.situation import Subjects, read, refused, without


def scored(prediction: Path, truth: Path, dataset: Path, count: int, **more: Any) -> None:
    report = score(prediction, truth, dataset=str(dataset), workers=1, progress=False, **more)
    assert not report.problems
    assert report.as_dict()["cases"] == count
    assert report.as_dict()["mean_dice"] == 1.0


@read(__name__)
def folds_go_there_and_back(folder: Path) -> Subjects:
    nnunet(folder, [ball()] * 6)
    dataset = read_dataset(folder)
    found = find_folds(dataset, dataset.labels, folds=3, seed=0)
    (folder / "splits_final.json").write_text(found.to_nnunet())

    def same() -> None:
        names = [case.name for case in dataset.cases]
        assert read_folds(folder / "splits_final.json", names).folds == found.folds
        first = json.loads((folder / "splits_final.json").read_text())[0]
        assert set(first) == {"train", "val"}

    yield same


@read(__name__)
def masks_are_scored_by_a_description(folder: Path) -> Subjects:
    root = nnunet(folder / "Dataset001_Ball", [ball()] * 4)
    for dataset in (root, root / "dataset.json"):
        yield lambda dataset=dataset: scored(root / "labelsTr", root / "labelsTr", dataset, 4)


@read(__name__)
def masks_are_scored_by_the_path_of_a_card(folder: Path) -> Subjects:
    from medseg.core.resources import resource_file

    shutil.copyfile(resource_file("datasets", "task04_hippocampus"), folder / "mine.yaml")
    root = nnunet(folder / "set", [ball()] * 4)
    yield lambda: scored(root / "labelsTr", root / "labelsTr", folder / "mine.yaml", 4)
    yield lambda: scored(root / "labelsTr", root / "labelsTr", Path("task04_hippocampus"), 4)


@read(__name__)
def cases_with_spaces_and_dots_are_listed(folder: Path) -> Subjects:
    names = ["IXI002-Guys-0828.T1", "sub 07", "1.2.840.113619.2", "plain", "also.nii.gz"]
    root = nnunet(folder / "set", [ball()])
    for name in names:
        save(folder / f"masks/{name.removesuffix('.nii.gz')}.nii.gz", ball())
    (folder / "cases.txt").write_text("\n".join(names) + "\nmasks/plain.nii.gz masks/plain.nii.gz\n")
    more = {"cases": folder / "cases.txt"}
    yield lambda: scored(folder / "masks", folder / "masks", root, len(names), **more)


@refused(__name__, "7 (128 voxels)", "0 background, 1 ball")
def a_mask_with_a_value_that_no_class_has(folder: Path) -> Subjects:
    root = nnunet(folder / "set", [ball()] * 2)
    save(folder / "masks/c0.nii.gz", ball(7))
    yield lambda: scored(folder / "masks", root / "labelsTr", root, 2)


@refused(__name__, "says nothing of what masks mean")
def a_folder_that_describes_nothing(folder: Path) -> Subjects:
    save(folder / "masks/c0.nii.gz", ball())
    yield lambda: scored(folder / "masks", folder / "masks", folder / "masks", 1)


@refused(__name__, "needs a card")
def a_benchmark_without_a_card(folder: Path) -> Subjects:
    root = nnunet(folder / "set", [ball()] * 2)
    yield lambda: scored(root / "labelsTr", root / "labelsTr", root, 2, convention="voc")


@refused(__name__, "1 is ignored and a class")
def a_description_that_contradicts_itself(folder: Path) -> Subjects:
    root = nnunet(folder / "set", [ball()] * 2, CLASSES | {"ignore": 1})
    yield lambda: scored(root / "labelsTr", root / "labelsTr", root, 2)


without(__name__, "medseg.workflows.score.unknown_values", lambda *_: None)
without(__name__, "medseg.workflows.score.entries_of", lambda line, _: line.split())
