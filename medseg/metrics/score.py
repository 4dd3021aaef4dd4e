"""The score of one case: for each target a state and, unless it is absent, every metric.

For each case and target (a class or a region) the *state* says what happened:

    scored                in the truth and in the prediction: all metrics as measured
    missed                in the truth only: ratios are 0, HD95 is the diagonal of the image
    false_positive_only   in the prediction only: ratios are 0, HD95 is the diagonal of the image
    absent                in neither: no metric, counted in no mean

So everything but *absent* counts in every metric: a structure overlooked, or invented, can make no mean better. (The
diagonal is what the BraTS challenges charge for a missed region: 373.13 mm for 240 x 240 x 155 mm.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.metrics.confusion import Counts, bounding_box, count, where_values
from medseg.metrics.surface import surface_distances

State = Literal["scored", "missed", "false_positive_only", "absent"]
STATES: tuple[str, ...] = get_args(State)
METRICS = ("dice", "iou", "precision", "recall", "hd95_mm", "surface_dice")
VOLUMES = ("volume_ml", "truth_volume_ml")


@dataclass(frozen=True)
class CaseScore:
    """One row of the table: one target of one case. Metrics are None where the state is *absent*; ml only in 3D."""

    case: str
    target: str
    state: State
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    hd95_mm: float | None
    surface_dice: float | None
    tolerance_mm: float
    volume_ml: float | None
    truth_volume_ml: float | None
    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def counts(self) -> Counts:
        return Counts(self.true_positives, self.false_positives, self.false_negatives)


def score_case(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    case: str,
    labels: Labels,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> list[CaseScore]:
    """Score every target of one case.

    Args:
        prediction: integer mask (*spatial) of label values.
        truth: integer label (*spatial); voxels of `labels.ignored` count nowhere.
        spacing_mm: voxel size along each axis.
        tolerance_mm: tolerance of the surface Dice.

    Raises:
        DataError: prediction, truth and spacing do not have the same shape or dimensions.
    """
    if prediction.shape != truth.shape or len(spacing_mm) != truth.ndim:
        what = f"prediction {prediction.shape}, truth {truth.shape} and spacing {tuple(spacing_mm)} do not fit together"
        raise DataError(Problem(case, what, "a mask must lie on the grid of its label, with one spacing an axis"))
    diagonal_mm = math.hypot(*(size * step for size, step in zip(truth.shape, spacing_mm, strict=True)))
    voxel_ml = math.prod(spacing_mm) / 1000 if truth.ndim == 3 else None
    values = sorted({value for group in labels.targets.values() for value in group})
    # Nothing happens outside the box around all targets, and it is often a tenth of the volume.
    box = bounding_box(where_values(prediction, values) | where_values(truth, values))
    prediction, truth = prediction[box], truth[box]
    counted = ~where_values(truth, labels.ignored) if labels.ignored else None
    scores = []
    for target, group in labels.targets.items():
        predicted, true = where_values(prediction, group), where_values(truth, group)
        if counted is not None:
            predicted, true = predicted & counted, true & counted
        counts = count(predicted, true)
        state: State = "absent"
        metrics: dict[str, float | None] = dict.fromkeys(METRICS)
        if counts.predicted or counts.true:
            state = "scored" if counts.predicted and counts.true else "missed" if counts.true else "false_positive_only"
            metrics = {name: getattr(counts, name) for name in ("dice", "iou", "precision", "recall")}
            metrics |= {"hd95_mm": diagonal_mm, "surface_dice": 0.0}
        if state == "scored":
            surfaces = surface_distances(predicted, true, spacing_mm)
            metrics |= {"hd95_mm": surfaces.hausdorff_mm(95), "surface_dice": surfaces.dice(tolerance_mm)}
        scores.append(
            CaseScore(
                case=case,
                target=target,
                state=state,
                tolerance_mm=float(tolerance_mm),
                volume_ml=None if voxel_ml is None else counts.predicted * voxel_ml,
                truth_volume_ml=None if voxel_ml is None else counts.true * voxel_ml,
                true_positives=counts.true_positives,
                false_positives=counts.false_positives,
                false_negatives=counts.false_negatives,
                **metrics,
            )
        )
    return scores
