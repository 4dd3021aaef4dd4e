"""What the values of a label may be: the one rule of `check`, `plan`, `train`, `evaluate` and `score`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.files.images import Image, label_values
from medseg.data.files.pictures import is_picture

MOST, MOST_NAMES = 8, 20  # values and classes told one by one
WHITE = 255
BLACK_AND_WHITE = "255 is white of a mask of black and white: give the class the value 255, or write 0 and 1"
VOID = "255 is what many tools write where nothing is known: ignore it (ignore_index: 255 of a config's data)"
NO_CLASS = "255 is never a class"


def meanings(labels: Labels) -> dict[int, str]:
    """Every value that a label may hold, after `counts_as` -> its class; "" of one that is ignored."""
    names = {value: name for name, value in labels.classes.items()}
    return {value: "" if value in labels.ignored else names.get(value, "") for value in labels.known}


def unknown_values(counts: np.ndarray, where: str, known: Collection[int] | Mapping[int, str]) -> Problem | None:
    """What is wrong with a file that holds values without a meaning; None where nothing is.

    Args:
        counts: (256,), voxels of each value.
        where: the file.
        known: all that it may hold; perhaps with their classes, for the remedy.
    """
    strange = sorted(set(np.flatnonzero(counts).tolist()) - set(known))
    if not strange:
        return None
    unit = "pixels" if is_picture(where) else "voxels"
    some = ", ".join(f"{value} ({counts[value]} {unit})" for value in strange[:MOST]) + ", ..." * (len(strange) > MOST)
    names = known if isinstance(known, Mapping) else {}
    told = {} if len(names) > MOST_NAMES else names
    expected = ", ".join(f"{value} {name or '(ignored)'}" for value, name in told.items()) or ranges(known)
    remedy = f"expected {expected}: name the value as a class or as ignored, or recode the file"
    if strange == [WHITE] and names:
        remedy += f"; {BLACK_AND_WHITE if set(np.flatnonzero(counts).tolist()) <= {0, WHITE} else VOID}"
    elif WHITE in strange:
        remedy += f"; {NO_CLASS}"
    return Problem(where, f"holds values that are no classes here: {some}", remedy)


def check_values(values: np.ndarray, known: Mapping[int, str], where: object) -> np.ndarray:
    """How many voxels of a label map `(*spatial)` uint8, after `counts_as`, have each value: `(256,)`.

    Raises:
        DataError: one of them is not known.
    """
    counts = np.bincount(values.ravel(), minlength=256)
    if problem := unknown_values(counts, str(where), known):
        raise DataError(problem)
    return counts


def class_values(label: Image, labels: Labels) -> np.ndarray:
    """The label map `(1, *spatial)` uint8 of a file, each value that of a class or an ignored one.

    Raises:
        DataError: a value is no whole number, or means nothing.
    """
    if labels.undeclared:
        check_values(label_values(label), _meanings_in_files(labels), label.path)
    values = label_values(label, labels.counts_as)
    check_values(values, meanings(labels), label.path)
    return values


def _meanings_in_files(labels: Labels) -> dict[int, str]:
    """As `meanings`, by the values in the label files, before `counts_as`."""
    after, own = meanings(labels), labels.counts_as
    known = ((value, own.get(value, value)) for value in range(256) if value not in labels.undeclared)
    return {value: after[counted] for value, counted in known if counted in after}


def ranges(values: Collection[int]) -> str:
    """`0-3, 7`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
