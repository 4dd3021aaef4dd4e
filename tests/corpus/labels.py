"""What labels may hold: one rule of values, healthy subjects, ignored values, flat volumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medseg.data.cases.dataset import read_dataset
from medseg.planning.fingerprint import fingerprint
from tests.corpus.situation import Subjects, read, refused, without

SHAPE = (12, 10, 8)
CLASSES = {"background": 0, "ball": 1}


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 1.5, 1.0])), path)


def image(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def ball(value: int = 1, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[3:7, 3:7, ...] = value
    return mask


def nnunet(root: Path, masks: list[np.ndarray], labels: dict[str, Any] | None = None, **more: Any) -> Path:
    for number, mask in enumerate(masks):
        save(root / f"imagesTr/c{number}_0000.nii.gz", image(number, mask.shape))
        save(root / f"labelsTr/c{number}.nii.gz", mask)
    description = {"channel_names": {"0": "MRI"}, "labels": labels or CLASSES, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description | {"numTraining": len(masks)} | more))
    return root


def planned(root: Path) -> None:
    fingerprint(read_dataset(root), "MR", progress=False)


@read(__name__)
def healthy_among_others(folder: Path) -> Subjects:
    yield nnunet(folder, [ball()] * 5 + [np.zeros(SHAPE, np.uint8)])
    yield lambda: planned(folder)


@refused(__name__, "no label has anything in it")
def nothing_but_healthy(folder: Path) -> Subjects:
    yield nnunet(folder, [np.zeros(SHAPE, np.uint8)] * 3)


@refused(__name__, "c1.nii.gz", "7 (128 voxels)", "0 background, 1 ball")
def a_value_that_no_class_has(folder: Path) -> Subjects:
    yield nnunet(folder, [ball(), ball(7), ball()])


@refused(__name__, "c0.nii.gz", "7 (128 voxels)", "0 background, 1 ball")
def a_value_that_no_class_has_is_not_planned(folder: Path) -> Subjects:
    nnunet(folder, [ball(7), ball(), ball()])
    yield lambda: planned(folder)


@refused(__name__, "255 (128 voxels)", "255 is white of a mask of black and white")
def black_and_white(folder: Path) -> Subjects:
    yield nnunet(folder, [ball(255)] * 3)


@read(__name__)
def black_and_white_that_says_so(folder: Path) -> Subjects:
    yield nnunet(folder, [ball(255)] * 3, {"background": 0, "ball": 255})


def with_rims(values: tuple[int, ...]) -> np.ndarray:
    mask = ball()
    for place, value in enumerate(values):
        mask[place, :2] = value
    return mask


@read(__name__)
def one_value_is_ignored(folder: Path) -> Subjects:
    yield nnunet(folder, [with_rims((4,))] * 5, CLASSES | {"ignore": 4})
    yield lambda: planned(folder)


@read(__name__)
def two_values_are_ignored(folder: Path) -> Subjects:
    yield nnunet(folder, [with_rims((4, 5))] * 5, CLASSES | {"ignore": [4, 5]})
    yield lambda: planned(folder)


@refused(__name__, "6 (2 voxels)")
def another_value_than_the_two_that_are_ignored(folder: Path) -> Subjects:
    mask = with_rims((4, 5))
    mask[9, 9, :2] = 6
    yield nnunet(folder, [mask, ball(), ball()], CLASSES | {"ignore": [4, 5]})


@refused(__name__, "1 is ignored and a class")
def a_class_that_is_ignored(folder: Path) -> Subjects:
    yield nnunet(folder, [ball()] * 3, CLASSES | {"ignore": [1, 5]})


@read(__name__)
def regions_with_an_ignored_value(folder: Path) -> Subjects:
    mask = with_rims((3,))
    mask[5:7, 3:7] = 2
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    yield nnunet(folder, [mask] * 5, labels, regions_class_order=[1, 2])


@refused(__name__, "label on another grid", "shape")
def a_label_of_another_shape(folder: Path) -> Subjects:
    nnunet(folder, [ball()] * 3)
    save(folder / "labelsTr/c1.nii.gz", ball()[:, :, :-1])
    yield folder


@read(__name__)
def a_flat_volume_among_volumes(folder: Path) -> Subjects:
    yield nnunet(folder, [ball()] * 5 + [ball(shape=(12, 10, 1))])
    yield lambda: planned(folder)


without(__name__, "medseg.data.cases.inspection.unknown_values", lambda *_: None)
without(__name__, "medseg.planning.fingerprint.class_values", lambda label, _: label.array.astype(np.uint8))
