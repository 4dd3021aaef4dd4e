"""Sets of cleaning steps tried on one saved mask: plain functions for `in_parallel`, without torch's networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.files.images import label_values, read_image
from medseg.inference.cleaning import clean_mask
from medseg.metrics.confusion import bounding_box, count, where_values
from medseg.metrics.lesions import score_lesions


@dataclass(frozen=True)
class TrialCase:
    """A case, its fold, its mask before any step, and its label."""

    case: str
    fold: int
    mask: str
    truth: str


@dataclass(frozen=True)
class Part:
    """What is to be cleaned of one target in one mask; volumes are None, or not there, in two dimensions.

    Args:
        count: connected components.
        invented_ml: volume of each component that touches nothing of the truth.
        invented_only: the target is in the mask but not in the truth.
        total_ml: volume of the target in the mask.
        holes: whether there is a hole to fill.
    """

    count: int
    invented_ml: tuple[float, ...]
    invented_only: bool
    total_ml: float | None
    holes: bool


def survey(case: TrialCase, *, labels: Labels) -> dict[str, Part]:
    """The parts of every target in the mask of a case."""
    mask, truth, voxel_ml = _read(case, labels)
    found = {}
    for target, values in labels.targets.items():
        inside, true = where_values(mask, values), where_values(truth, values)
        parts, number = ndimage.label(inside)
        sizes = np.bincount(parts.ravel(), minlength=number + 1)
        invented = np.setdiff1d(np.arange(1, number + 1), parts[true | where_values(truth, labels.ignored)])
        volumes = () if voxel_ml is None else tuple(float(sizes[part] * voxel_ml) for part in invented)
        total = None if voxel_ml is None else float(inside.sum() * voxel_ml)
        holes = not np.array_equal(clean_mask(mask, labels, fill_holes=[target]), mask)
        found[target] = Part(number, volumes, bool(number and not true.any()), total, holes)
    return found


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
    image, other = (read_image(path, channel_axis=False) for path in (case.mask, case.truth))
    mask, truth = label_values(image)[0], label_values(other, labels.counts_as)[0]
    if mask.shape != truth.shape:
        what = f"{mask.shape}, but its label is {truth.shape}"
        raise DataError(Problem(case.mask, what, "medseg evaluate --run FOLDS predicts it anew"))
    box = bounding_box((mask != 0) | (truth != 0))
    volume = abs(float(np.linalg.det(image.affine[:3, :3]))) / 1000
    return mask[box], truth[box], volume if mask.ndim == 3 and math.isfinite(volume) else None
