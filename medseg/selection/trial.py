"""Sets of cleaning steps tried on one saved mask: plain functions for `in_processes`, without torch's networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.config.postprocess import Step
from medseg.core.boxes import bounding_box
from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.files.formats import voxel_ml
from medseg.data.files.images import as_volume, label_values, read_label
from medseg.inference.cleaning import CLEANING
from medseg.inference.cleaning.clean import clean_mask
from medseg.inference.cleaning.step import HeldOut
from medseg.metrics.confusion import count, where_values
from medseg.metrics.lesions import score_lesions

Survey = Mapping[str, Mapping[str, Sequence[float]]]
"""Target -> step -> what there is for it to do, see `CleaningStep.scope`."""


@dataclass(frozen=True)
class TrialCase:
    """A case, its fold, its mask before any step, and its label.

    Args:
        dims: of the masks of the run; a file of one slice among volumes has a volume too.
    """

    case: str
    fold: int
    mask: str
    truth: str
    dims: int


def survey(case: TrialCase, *, labels: Labels) -> Survey:
    """What each step could do for each target in the mask of a case."""
    mask, truth, voxel_ml = _read(case, labels)
    found: dict[str, dict[str, list[float]]] = {}
    for target in labels.targets:
        held = HeldOut(mask, truth, labels, target, voxel_ml)
        found[target] = {name: list(step.load().scope(held)) for name, step in CLEANING.own.items()}
    return found


def candidates(surveys: Sequence[Survey], targets: Sequence[str]) -> list[Step]:
    """Every step that could change anything for the better, with the values that are worth trying."""
    steps = []
    for target in targets:
        for name, kind in CLEANING.own.items():
            scopes = [scope for one in surveys for scope in one[target][name]]
            steps += [Step(name, target, value) for value in kind.load().candidates(scopes)]
    return steps


def attempt(case: TrialCase, *, labels: Labels, sets: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """What each set of steps (arguments of `clean_mask`) gives: (sets, targets, 6), see `evidence.COLUMNS`."""
    mask, truth, voxel_ml = _read(case, labels)
    raw: np.ndarray | None = None
    results = []
    for steps in sets:
        cleaned = clean_mask(mask, labels, voxel_ml=voxel_ml, **steps)
        same = np.array_equal(cleaned, mask)
        if same and raw is not None:  # most steps change nothing in most cases
            results.append(raw)
            continue
        results.append(_counts(cleaned, truth, labels, case.case))
        raw = results[-1] if same else raw
    return np.stack(results)


def _counts(mask: np.ndarray, truth: np.ndarray, labels: Labels, case: str) -> np.ndarray:
    counted = ~where_values(truth, labels.ignored)
    lesions = score_lesions(mask, truth, case=case, labels=labels, targets=list(labels.targets))
    rows = []
    for (_, values), lesion in zip(labels.targets.items(), lesions, strict=True):
        counts = count(where_values(mask, values) & counted, where_values(truth, values) & counted)
        voxels = (counts.true_positives, counts.false_positives, counts.false_negatives)
        rows.append((*voxels, lesion.true, lesion.found, lesion.invented))
    return np.array(rows, dtype=np.int64)


def _read(case: TrialCase, labels: Labels) -> tuple[np.ndarray, np.ndarray, float | None]:
    """Mask and label in the box around both, and the volume of a voxel."""
    image = read_label(case.mask)
    other = read_label(case.truth, image)
    if case.dims == 3:
        image, other = as_volume(image), as_volume(other)
    mask, truth = label_values(image)[0], label_values(other, labels.counts_as)[0]
    if mask.shape != truth.shape:
        what = f"{mask.shape}, but its label is {truth.shape}"
        raise DataError(Problem(case.mask, what, "medseg evaluate --run FOLDS predicts it anew"))
    box = bounding_box((mask != 0) | (truth != 0))
    return mask[box], truth[box], voxel_ml(image.affine, mask.ndim)
