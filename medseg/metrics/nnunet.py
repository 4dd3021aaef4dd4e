"""`summary.json` as nnU-Net's evaluation writes it, for programs that read that.

Keys are label values ("1"), or those of a region ("(1, 2)"). As there, a case with a class in neither truth nor
prediction has no Dice (NaN) and counts in no mean of that class; a class without any Dice makes the foreground's NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from medseg.core.labels import Labels
from medseg.metrics.score import CaseScore


def nnunet_summary(cases: Iterable[tuple[str, str, Sequence[CaseScore], int]], labels: Labels) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        cases: (file of the truth, file of the prediction, a score of each target, voxels that are not ignored).
    """
    keys = {name: _key(values) for name, values in labels.targets.items()}
    rows: list[dict[str, Any]] = [
        {
            "metrics": {keys[score.target]: _figures(score, voxels) for score in scores},
            "prediction_file": prediction,
            "reference_file": truth,
        }
        for truth, prediction, scores, voxels in cases
    ]
    figures = [{key: _of(row, key) for key in keys.values()} for row in rows]
    names = list(figures[0][next(iter(keys.values()))]) if figures else []
    means = {key: {name: _mean(row[key][name] for row in figures) for name in names} for key in keys.values()}
    foreground = {name: float(np.mean([mean[name] for mean in means.values()])) for name in names}
    return {"foreground_mean": foreground, "mean": means, "metric_per_case": rows}


def _key(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else str(tuple(values))


def _figures(score: CaseScore, voxels: int) -> dict[str, float]:
    true, invented, overlooked = score.true_positives, score.false_positives, score.false_negatives
    union = true + invented + overlooked
    return {
        "Dice": 2 * true / (2 * true + invented + overlooked) if union else math.nan,
        "IoU": true / union if union else math.nan,
        "TP": true,
        "FP": invented,
        "FN": overlooked,
        "TN": voxels - union,
        "n_pred": true + invented,
        "n_ref": true + overlooked,
    }


def _of(row: dict[str, Any], key: str) -> dict[str, float]:
    found: dict[str, float] = row["metrics"][key]
    return found


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
