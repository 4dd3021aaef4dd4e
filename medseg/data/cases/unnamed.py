"""What a data set does not say of itself, read from its files: what its channels are, and the values of its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.parallel import every_result
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.data.files.dicom import is_study, modality
from medseg.data.files.images import label_values

MOST_CLASSES = 64  # more values than this are no classes: a grey picture, instance numbers
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

    255 beside other classes is ignored; alone, it is the foreground of a mask of black and white.

    Raises:
        DataError: of all labels that cannot be read, at once; there are too many values to be classes.
    """

    def look(case: Case) -> np.ndarray:
        return np.bincount(label_values(case.read_label()).ravel(), minlength=256) > 0

    every = np.zeros(256, bool)
    for found in every_result(look, dataset.cases):
        every |= found
    present = [int(value) for value in np.flatnonzero(every) if value]
    if not present or len(present) > MOST_CLASSES:
        what = f"has {len(present)} different values above 0 in its labels"
        raise DataError(Problem(str(dataset.root), what, "a label map holds one small whole number a class"))
    ignored = VOID if VOID in present and len(present) > 1 else None
    values = [value for value in present if value != ignored]
    return {"background": 0} | {f"class_{value}": value for value in values}, ignored
