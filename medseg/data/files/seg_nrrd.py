"""Segmentations of 3D Slicer, `.seg.nrrd`: named segments on one or several layers, often cropped to what they hold.

Each layer is a label map; segments on different layers may overlap and have the same value. A file says of its n-th
segment `SegmentN_Name`, `SegmentN_Layer` and `SegmentN_LabelValue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.data.files.formats import Image, from_itk, open_itk
from medseg.data.files.nifti_geometry import APART_VOXELS

SEGMENTATION = ".seg.nrrd"
MOST = 255  # value of a label
APART = "in Slicer's Segment Editor let segments not overlap (Masking: modify other segments), or export a label map"


@dataclass(frozen=True)
class Segment:
    """One segment: its name, "" where the file says none, its layer, and its value there."""

    name: str
    layer: int
    value: int


def is_segmentation(path: Path) -> bool:
    return path.name.lower().endswith(SEGMENTATION)


def read_segmentation(path: Path) -> Image:
    """The segments as one label map `(1, *spatial)`, and their names as `Image.segments`.

    They keep their values where those differ, and are numbered in their order otherwise.

    Raises:
        DataError: two of them overlap, or there are more than a label map has values.
    """
    read = open_itk(path).Execute()
    image = from_itk(read, path)
    layers = image.array
    segments = _segments({key: read.GetMetaData(key) for key in read.GetMetaDataKeys()}) or _unnamed(layers)
    values = [segment.value for segment in segments]
    if len(set(values)) < len(values) or max(values, default=0) > MOST:
        values = list(range(1, len(segments) + 1))
    if max(values, default=0) > MOST:
        raise DataError(Problem(str(path), f"has {len(segments)} segments, a label map {MOST}", "leave some out"))
    array = np.zeros(image.shape, np.uint8)
    for segment, value in zip(segments, values, strict=True):
        if segment.layer >= len(layers):
            raise DataError(Problem(str(path), "names a layer that it does not have", "save it again in 3D Slicer"))
        inside = layers[segment.layer] == segment.value
        if (both := array[inside]).any():
            other = segments[values.index(int(both.max()))]
            what = f"segments that overlap: {_called(segment)} and {_called(other)}, in {np.count_nonzero(both)} voxels"
            raise DataError(Problem(str(path), what, APART))
        array[inside] = value
    names = tuple((one.name, value) for one, value in zip(segments, values, strict=True) if one.name)
    return replace(image, array=array[None], segments=names)


def laid_on(label: Image, image: Image) -> Image:
    """A segmentation that was cropped to what it holds, on the grid of its image; any other label as it is."""
    if not is_segmentation(label.path) or label.array.ndim != image.array.ndim or len(image.shape) != 3:
        return label
    said = [one.affine if one.affine_of_file is None else one.affine_of_file for one in (image, label)]
    between = np.linalg.inv(said[0]) @ said[1]  # where it was cropped, only the files know
    start = np.rint(between[:3, 3]).astype(int)
    lattice = np.eye(4)
    lattice[:3, 3] = start
    far = np.abs((between - lattice)[:3] @ [*label.shape, 1]).max()
    if far > APART_VOXELS:
        return label
    low, high = np.maximum(start, 0), np.minimum(start + label.shape, image.shape)
    if (low >= high).any():
        return label
    inside = label.array[:, *(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))]
    if np.count_nonzero(inside) != np.count_nonzero(label.array):
        return label
    array = np.zeros((1, *image.shape), label.array.dtype)
    array[:, *(slice(a, b) for a, b in zip(low, high, strict=True))] = inside
    return replace(label, array=array, affine=image.affine, affine_of_file=image.affine_of_file)


def _segments(header: Mapping[str, str]) -> list[Segment]:
    found: list[Segment] = []
    while any(f"Segment{len(found)}_{key}" in header for key in ("ID", "Name", "LabelValue")):
        start = f"Segment{len(found)}_"
        layer, value = _number(header.get(f"{start}Layer", "0")), _number(header.get(f"{start}LabelValue", "1"))
        found.append(Segment(header.get(f"{start}Name", "").strip(), layer, value))
    return found


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def _unnamed(layers: np.ndarray) -> list[Segment]:
    """Where nothing is said: each value of each layer."""
    return [Segment("", n, int(value)) for n, layer in enumerate(layers) for value in np.unique(layer) if value]


def _called(segment: Segment) -> Any:
    return repr(segment.name) if segment.name else f"{segment.value} on layer {segment.layer}"
