"""Headers and intensities that cannot be true, though nothing in them contradicts itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from medseg.data.cases.dataset import read_dataset
from medseg.data.files.images import grid_difference, read_image, write_mask
from medseg.data.files.reading import ReadingRules, reading
from tests.corpus.situation import Subjects, read, refused, warned, without

SPACING = (0.9, 0.9, 2.5)


def tissue(seed: int, shape: Sequence[int], smooth: Sequence[float] = (1, 1, 1)) -> np.ndarray:
    """Blobs of a brightness from 100 to 300, as smooth along each axis as said, in a frame of 0."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), smooth)
    image = 100 + 200 * (values - values.min()) / np.ptp(values)
    image[:2], image[-2:] = 0, 0
    return image.astype(np.int16)


def dataset(
    folder: Path,
    image: Callable[[int], np.ndarray],
    spacing: Sequence[float] = SPACING,
    channel: str = "T1",
    cases: int = 2,
) -> Path:
    """nnU-Net's layout, one channel, a label of a few voxels."""
    for number in range(cases):
        voxels = image(number)
        label = np.zeros(voxels.shape, np.uint8)
        label[3:5, 3:5, 3:5] = 1
        for kind, name, values in (("imagesTr", f"c{number}_0000", voxels), ("labelsTr", f"c{number}", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1])), folder / kind / f"{name}.nii.gz")
    about = {"channel_names": {"0": channel}, "labels": {"background": 0, "one": 1}, "numTraining": cases}
    (folder / "dataset.json").write_text(json.dumps({**about, "file_ending": ".nii.gz"}))
    return folder


def small(seed: int) -> np.ndarray:
    return tissue(seed, (20, 18, 10))


def ct(seed: int) -> np.ndarray:
    values = small(seed) - 150
    values[:6] = -1000
    return values


@warned(__name__, "30 mm", "data.spacing_mm")
def slices_of_30_mm(folder: Path) -> Subjects:
    yield dataset(folder, small, (1, 1, 30))


@warned(__name__, "500 x 500 x 500 mm", "data.spacing_mm")
def metres_that_were_millimetres(folder: Path) -> Subjects:
    yield dataset(folder, small, (500, 500, 500))


@warned(__name__, "1 x 1 x 1 mm", "thin disc", "data.spacing_mm")
def large_thin_slab_of_cubes(folder: Path) -> Subjects:
    yield dataset(folder, lambda seed: tissue(seed, (160, 160, 12)), (1, 1, 1))


@warned(__name__, "1 x 1 x 1 mm", "cannot be true", "data.spacing_mm")
def cubes_whose_slices_are_far_apart(folder: Path) -> Subjects:
    yield dataset(folder, lambda seed: tissue(seed, (64, 64, 20), (4, 4, 0.8)), (1, 1, 1), cases=3)


@read(__name__)
def true_cubes(folder: Path) -> Subjects:
    yield dataset(folder, lambda seed: tissue(seed, (48, 48, 40), (2, 2, 2)), (1, 1, 1), cases=3)


@read(__name__)
def thick_slices_that_the_header_says(folder: Path) -> Subjects:
    yield dataset(folder, lambda seed: tissue(seed, (160, 160, 12), (4, 4, 0.8)), (0.9, 0.9, 6))


@read(__name__)
def heart_of_slices_of_10_mm(folder: Path) -> Subjects:
    yield dataset(folder, small, (1.4, 1.4, 10))


@read(__name__)
def specimen_of_50_micrometres(folder: Path) -> Subjects:
    yield dataset(folder, small, (0.05, 0.05, 0.05))


@read(__name__)
def ct_in_hu(folder: Path) -> Subjects:
    yield dataset(folder, ct, channel="CT")


@read(__name__)
def mr_without_anything_below_zero(folder: Path) -> Subjects:
    yield dataset(folder, small, channel="T2w MRI")


@warned(__name__, "none is below 0", "slope and intercept")
def ct_as_the_scanner_stored_it(folder: Path) -> Subjects:
    yield dataset(folder, lambda seed: ct(seed) + 1024, channel="CT")


@warned(__name__, "none is below 0", "slope and intercept")
def ct_as_a_picture_from_0_to_255(folder: Path) -> Subjects:
    yield dataset(folder, lambda seed: np.clip(ct(seed), 0, 255), channel="CT")


@warned(__name__, "as if they were scaled", "slope and intercept")
def ct_that_was_normalised(folder: Path) -> Subjects:
    yield dataset(folder, lambda seed: ((ct(seed) - 20) / 100).astype(np.float32), channel="CT")


@warned(__name__, "image without contrast", "every voxel is 7")
def constant_channel(folder: Path) -> Subjects:
    yield dataset(folder, lambda seed: small(seed) if seed else np.full((20, 18, 10), 7, np.int16))


@read(__name__)
def spacing_that_somebody_says(folder: Path) -> Subjects:
    dataset(folder, small, (30, 30, 30))

    def lengths() -> None:
        with reading(ReadingRules(spacing_mm=SPACING)):
            (case, _) = read_dataset(folder).cases
            image = case.read_image()
            assert np.allclose(image.spacing_mm, SPACING)
            assert grid_difference(image, case.read_label(image)) is None
            mask = folder / "mask.nii.gz"
            write_mask(mask, image.array[0] > 200, like=case.first)
            assert np.allclose(read_image(mask).spacing_mm, SPACING)
            assert np.array_equal(nibabel.load(mask).affine, nibabel.load(case.first).affine)

    yield lengths


@refused(__name__, "3 axes", "2 lengths")
def two_lengths_for_volumes(folder: Path) -> Subjects:
    dataset(folder, small)

    def lengths() -> None:
        with reading(ReadingRules(spacing_mm=(1.0, 1.0))):
            read_dataset(folder).cases[0].read_image()

    yield lengths


without(__name__, "medseg.data.cases.inspection.MOST_MM", 1e9)
without(__name__, "medseg.data.cases.across.slab_doubt", lambda *_: "")
without(__name__, "medseg.data.cases.across.spacing_doubt", lambda *_: "")
without(__name__, "medseg.data.cases.inspection.no_hounsfield", lambda *_: "")
without(__name__, "medseg.data.files.images.respaced", lambda image: image)
