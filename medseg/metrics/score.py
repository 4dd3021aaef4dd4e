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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from medseg.core.boxes import bounding_box
from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.files.formats import voxel_ml
from medseg.metrics.confusion import Counts, where_values
from medseg.metrics.documents import COUNT, MAYBE, NUMBER, TEXT, check_types
from medseg.metrics.metric import STATES, Comparison, Metric, State, load_metrics

VOLUMES = ("volume_ml", "truth_volume_ml")


@dataclass(frozen=True)
class CaseScore:
    """One row of the table: one target of one case; a metric is an attribute as well, `score.dice`.

    Args:
        metrics: name -> figure; None, or not there, counts in no mean. All are None where the state is *absent*.
        volume_ml, truth_volume_ml: of prediction and truth; None in 2D.
        other: what the file that this was read from says besides; it is kept, and written again.
    """

    case: str
    target: str
    state: State
    metrics: Mapping[str, float | None]
    tolerance_mm: float
    volume_ml: float | None
    truth_volume_ml: float | None
    true_positives: int
    false_positives: int
    false_negatives: int
    other: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> float | None:
        try:
            return self.__dict__["metrics"][name]  # not self.metrics, which is not there yet when it is unpickled
        except KeyError:
            raise AttributeError(f"no metric {name!r} in this score") from None

    @property
    def counts(self) -> Counts:
        return Counts(self.true_positives, self.false_positives, self.false_negatives)

    def row(self, names: Iterable[str]) -> dict[str, Any]:
        """Plain data without nesting: the metrics of these names (None: not there) in the place of `metrics`."""
        row: dict[str, Any] = {}
        for name in FIELDS:
            row |= {one: self.metrics.get(one) for one in names} if name == "metrics" else {name: getattr(self, name)}
        return {**row, **{key: value for key, value in self.other.items() if key not in row}}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], names: Iterable[str]) -> CaseScore:
        """The inverse of `row`, which may lack metrics and hold more.

        Raises:
            ValueError: something that every row has is missing, or is not what it should be.
        """
        fixed = {name: row[name] for name in FIELDS if name in row and name != "metrics"}
        if missing := [name for name in FIELDS if name not in fixed and name != "metrics"]:
            raise ValueError(f"a score has no {', no '.join(missing)}")
        if fixed["state"] not in STATES:
            raise ValueError(f"unknown state {fixed['state']!r}")
        metrics = {name: row[name] for name in names if name in row}
        if strange := [name for name, value in metrics.items() if type(value) not in MAYBE]:
            raise ValueError(f"{strange[0]} is {metrics[strange[0]]!r}, expected a number")
        check_types(fixed, case=TEXT, target=TEXT, tolerance_mm=NUMBER, volume_ml=MAYBE, truth_volume_ml=MAYBE)
        check_types(fixed, true_positives=COUNT, false_positives=COUNT, false_negatives=COUNT)
        return cls(**fixed, metrics=metrics, other={key: row[key] for key in row if key not in fixed | metrics})


FIELDS = tuple(one.name for one in fields(CaseScore) if one.name != "other")
"""The columns of every row, in their order; `metrics` stands for all of them."""


def score_case(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    case: str,
    labels: Labels,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    by: Mapping[str, Metric] | None = None,
) -> list[CaseScore]:
    """Score every target of one case.

    Args:
        prediction: integer mask (*spatial) of label values.
        truth: integer label (*spatial); voxels of `labels.ignored` count nowhere.
        spacing_mm: voxel size along each axis.
        tolerance_mm: tolerance of the surface Dice.
        by: the metrics, of `metric.load_metrics`; default: medseg's own.

    Raises:
        DataError: prediction, truth and spacing do not have the same shape or dimensions.
    """
    if prediction.shape != truth.shape or len(spacing_mm) != truth.ndim:
        what = f"prediction {prediction.shape}, truth {truth.shape} and spacing {tuple(spacing_mm)} do not fit together"
        raise DataError(Problem(case, what, "a mask must lie on the grid of its label, with one spacing an axis"))
    by = load_metrics() if by is None else by
    diagonal_mm = math.hypot(*(size * step for size, step in zip(truth.shape, spacing_mm, strict=True)))
    ml = voxel_ml(spacing_mm, truth.ndim)
    # Nothing happens outside the box around all targets, and it is often a tenth of the volume.
    box = bounding_box(where_values(prediction, labels.target_values) | where_values(truth, labels.target_values))
    prediction, truth = prediction[box], truth[box]
    counted = ~where_values(truth, labels.ignored) if labels.ignored else None
    scores = []
    for target, group in labels.targets.items():
        predicted, true = where_values(prediction, group), where_values(truth, group)
        if counted is not None:
            predicted, true = predicted & counted, true & counted
        found = Comparison(predicted, true, spacing_mm, diagonal_mm, float(tolerance_mm))
        counts = found.counts
        scores.append(
            CaseScore(
                case=case,
                target=target,
                state=found.state,
                metrics={name: metric(found) for name, metric in by.items()},
                tolerance_mm=found.tolerance_mm,
                volume_ml=None if ml is None else counts.predicted * ml,
                truth_volume_ml=None if ml is None else counts.true * ml,
                true_positives=counts.true_positives,
                false_positives=counts.false_positives,
                false_negatives=counts.false_negatives,
            )
        )
    return scores
