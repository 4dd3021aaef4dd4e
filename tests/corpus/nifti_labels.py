"""Labels as integers that a header scales, and in types that are seldom seen."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from medseg.data.files.images import label_values, read_image
from tests.corpus.situation import Subjects, read, refused, without

SHAPE = (10, 9, 8)
IMAGE = np.random.default_rng(3).normal(100, 20, SHAPE).astype(np.float32)


def label(top: int) -> np.ndarray:
    """All values up to `top`, each several times."""
    return (np.arange(np.prod(SHAPE)) % (top + 1)).reshape(SHAPE)


def dataset(folder: Path, values: np.ndarray, kind: type, slope: float | None = None) -> Path:
    """One case whose label nibabel writes as this type: through a scale where the values are floats."""
    for name, voxels in (("images", IMAGE), ("labels", values)):
        (folder / name).mkdir(parents=True)
        image = nibabel.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype)
        if name == "labels":
            image.set_data_dtype(kind)
            if slope is not None:
                image.header.set_slope_inter(slope, 0)
        nibabel.save(image, folder / name / "a.nii.gz")
    return folder


def same(folder: Path, values: np.ndarray) -> None:
    assert np.array_equal(label_values(read_image(folder / "labels/a.nii.gz"))[0], values)


def classes(folder: Path, top: int, kind: type) -> Subjects:
    values = label(top)
    where = dataset(folder, values.astype(np.float64), kind)
    yield lambda: same(where, values)
    if top < 64:
        yield where


@read(__name__)
def four_classes_through_bytes_with_a_slope(folder: Path) -> Subjects:
    yield from classes(folder, 4, np.uint8)


@read(__name__)
def all_117_classes_through_16_bits_with_a_slope(folder: Path) -> Subjects:
    yield from classes(folder, 117, np.int16)


@read(__name__)
def three_classes_through_16_bits_with_a_slope(folder: Path) -> Subjects:
    yield from classes(folder, 3, np.int16)


@refused(__name__, "a.nii.gz", "slope", "whole numbers, without a slope")
def so_many_classes_that_bytes_do_not_tell_them(folder: Path) -> Subjects:
    yield from classes(folder, 41, np.int8)


@refused(__name__, "a.nii.gz", "slope 0.5")
def halves_by_a_slope(folder: Path) -> Subjects:
    yield dataset(folder, label(4) / 2, np.int16, slope=0.5)


@refused(__name__, "non-integer voxels (0.25", "resampled linearly")
def resampled_linearly(folder: Path) -> Subjects:
    yield dataset(folder, (label(4) / 4).astype(np.float32), np.float32)


def whole(folder: Path, kind: type) -> Subjects:
    values = label(3).astype(kind)
    where = dataset(folder, values, kind)
    yield lambda: same(where, values)
    yield where


@read(__name__)
def whole_numbers_of_64_bits(folder: Path) -> Subjects:
    yield from whole(folder, np.int64)


@read(__name__)
def unsigned_of_64_bits(folder: Path) -> Subjects:
    yield from whole(folder, np.uint64)


@read(__name__)
def doubles(folder: Path) -> Subjects:
    yield from whole(folder, np.float64)


@read(__name__)
def bytes_with_a_sign(folder: Path) -> Subjects:
    yield from whole(folder, np.int8)


@refused(__name__, "a.nii.gz", "from 0 to 1035")
def numbers_of_freesurfer(folder: Path) -> Subjects:
    yield dataset(folder, label(3).astype(np.int32) * 345, np.int32)


@refused(__name__, "a.nii.gz", "has 2 channels")
def one_channel_a_class(folder: Path) -> Subjects:
    yield dataset(folder, np.stack([label(1), 1 - label(1)], -1).astype(np.uint8), np.uint8)


without(__name__, "medseg.data.files.images.SCALED_TOLERANCE", 1e-4)
