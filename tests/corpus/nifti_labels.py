"""Labels as integers that a header scales, and in types that are seldom seen; segmentations of 3D Slicer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medseg.data.cases.dataset import read_dataset
from medseg.data.cases.unnamed import found_classes
from medseg.data.files.formats import read_itk
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


# --- segmentations of 3D Slicer ------------------------------------------------------------------------------------

BALL = np.zeros(SHAPE, np.uint8)
BALL[2:5, 3:6, 2:5] = 1
BESIDE = np.zeros(SHAPE, np.uint8)
BESIDE[6:8, 3:6, 2:5] = 1


def segmentation(
    path: Path,
    layers: Sequence[np.ndarray],
    segments: Sequence[tuple[str, int, int]] = (),
    start: Sequence[int] = (0, 0, 0),
) -> Path:
    """As 3D Slicer writes it: one layer, or the list of layers as the first axis; (name, layer, value) of segments."""
    several, one = len(layers) > 1, np.asarray(layers[0])
    stored = np.stack(layers) if several else one
    lines = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {stored.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, stored.shape))}",
        f"space directions: {'none ' * several}(-1,0,0) (0,-1,0) (0,0,1)",
        f"kinds: {'list ' * several}domain domain domain",
        "encoding: raw",
        f"space origin: ({-start[0]},{-start[1]},{start[2]})",
    ]
    for number, (name, layer, value) in enumerate(segments):
        fields = {"ID": f"Segment_{number + 1}", "Name": name, "Layer": layer, "LabelValue": value}
        lines += [f"Segment{number}_{key}:={field}" for key, field in fields.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*lines, "", ""]).encode() + stored.tobytes(order="F"))
    return path


def drawn(folder: Path, *labels: Any) -> Path:
    """Cases a0, a1, ... whose labels are these segmentations, the arguments of `segmentation`."""
    (folder / "images").mkdir(parents=True)
    for number, arguments in enumerate(labels):
        image = nibabel.Nifti1Image(IMAGE + number, np.eye(4))
        nibabel.save(image, folder / f"images/a{number}.nii.gz")
        segmentation(folder / f"labels/a{number}.seg.nrrd", *arguments)
    return folder


def as_values(folder: Path, expected: np.ndarray, classes: dict[str, int] | None = None) -> None:
    dataset = read_dataset(folder)
    for case in dataset.cases:
        assert np.array_equal(label_values(case.read_label(case.read_image()))[0], expected)
    if classes is not None:
        assert found_classes(dataset)[0] == {"background": 0} | classes


@read(__name__)
def segments_on_one_layer(folder: Path) -> Subjects:
    label = ([BALL + 2 * BESIDE], [("tumour", 0, 1), ("oedema", 0, 2)])
    yield drawn(folder / "set", label, label)
    yield lambda: as_values(folder / "set", BALL + 2 * BESIDE, {"tumour": 1, "oedema": 2})


@read(__name__)
def segments_on_two_layers_of_one_value(folder: Path) -> Subjects:
    label = ([BALL, BESIDE], [("tumour", 0, 1), ("oedema", 1, 1)])
    yield drawn(folder / "set", label, label)
    yield lambda: as_values(folder / "set", BALL + 2 * BESIDE, {"tumour": 1, "oedema": 2})


@refused(__name__, "a0.seg.nrrd", "'tumour'", "'organ'", "overlap", "27 voxels")
def segments_that_overlap(folder: Path) -> Subjects:
    yield drawn(folder, ([BALL, BALL + BESIDE], [("tumour", 0, 1), ("organ", 1, 1)]))


@refused(__name__, "a0.seg.nrrd", "overlap", "on layer 1")
def layers_that_overlap_without_a_name(folder: Path) -> Subjects:
    yield drawn(folder, ([BALL, BALL],))


@read(__name__)
def cropped_to_what_it_holds(folder: Path) -> Subjects:
    label = ([BALL[2:5, 3:7, 1:5]], [("tumour", 0, 1)], (2, 3, 1))
    yield drawn(folder / "set", label, label)
    yield lambda: as_values(folder / "set", BALL, {"tumour": 1})


@refused(__name__, "a0.seg.nrrd", "another grid")
def cropped_from_another_image(folder: Path) -> Subjects:
    yield drawn(folder / "set", ([BALL[2:5, 3:7, 1:5]], [("tumour", 0, 1)], (2.5, 3, 1)))


@refused(__name__, "a1.seg.nrrd", "'oedema' has the value 1", "a0.seg.nrrd", "same label values")
def values_that_change_from_case_to_case(folder: Path) -> Subjects:
    first = ([BALL + 2 * BESIDE], [("tumour", 0, 1), ("oedema", 0, 2)])
    yield drawn(folder, first, ([BALL + 2 * BESIDE], [("oedema", 0, 1), ("tumour", 0, 2)]))


without(__name__, "medseg.data.files.images.read_segmentation", read_itk)
without(__name__, "medseg.data.files.images.laid_on", lambda label, _: label)
without(__name__, "medseg.data.cases.unnamed._same_segment", lambda *_: None)
