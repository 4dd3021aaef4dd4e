"""What a data set does not say of itself, read from its files: what its channels are, and the values of its labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.parallel import every_result
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.data.files.dicom import is_study, modality
from medseg.data.files.images import Image, label_values

MOST_CLASSES = 120  # TotalSegmentator has 117; more values are no classes: a grey picture, instance numbers
EMPTY = np.zeros(0)
VOID = 255  # beside other values, what many tools write where nothing is known


def channel_names(dataset: Dataset) -> tuple[str, ...]:
    """The data set's own; else red, green and blue, CT, MR or PT as a DICOM header says, or numbers.

    Raises:
        DataError: the first image cannot be read.
    """
    cases = dataset.cases or dataset.unlabelled
    if not cases or (dataset.channels and not dataset.natural):
        return dataset.channels
    case = cases[0]
    if len(case.images) == 1 and is_study(Path(case.first)) and (code := modality(Path(case.first))):
        return (code,)
    count = len(case.read_image().array)
    return ("red", "green", "blue") if count == 3 and case.is_picture else tuple(map(str, range(count)))


def found_classes(dataset: Dataset) -> tuple[dict[str, int], int | None]:
    """(name -> value, value that is ignored) of all values in the labels: background, class_1, class_2, ...

    A class is called as the segments of its value are, where the labels are segmentations of 3D Slicer. 255 beside
    other classes is ignored; alone, it is the foreground of a mask of black and white.

    Raises:
        DataError: of all labels that cannot be read, at once; there are too many values to be classes; a segment has
            another value in another label, or another name.
    """

    def look(case: Case) -> tuple[np.ndarray, Image]:
        label = case.read_label()
        return np.bincount(label_values(label).ravel(), minlength=256) > 0, replace(label, array=EMPTY)

    every = np.zeros(256, bool)
    segments: dict[int, tuple[str, Path]] = {}
    for found, label in every_result(look, dataset.cases):
        every |= found
        for name, value in label.segments:
            _same_segment(segments, name, value, label.path)
    present = [int(value) for value in np.flatnonzero(every) if value]
    if not present or len(present) > MOST_CLASSES:
        what = f"has {len(present)} different values above 0 in its labels"
        raise DataError(Problem(str(dataset.root), what, "a label map holds one small whole number a class"))
    ignored = VOID if VOID in present and len(present) > 1 else None
    values = [value for value in present if value != ignored]
    names = {value: segments[value][0] if value in segments else f"class_{value}" for value in values}
    return {"background": 0} | {name: value for value, name in names.items()}, ignored


def _same_segment(known: dict[int, tuple[str, Path]], name: str, value: int, path: Path) -> None:
    """Add a segment; raises DataError where its value has another name in another label, or its name another value."""
    for other, (called, where) in {**known, value: known.get(value, (name, path))}.items():
        if (other == value) != (called == name):
            what = f"the segment {name!r} has the value {value}, but in {where.name} {called!r} has {other}"
            remedy = "give all segmentations the same label values"
            raise DataError(Problem(str(path), what, remedy))
    known[value] = (name, path)
