"""nnU-Net's `summary.json`, against its own formulas on random masks."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from medseg.core.labels import Labels
from medseg.metrics.nnunet import nnunet_summary
from medseg.metrics.score import score_case

CLASSES = Labels({"background": 0, "a": 1, "b": 2})
REGIONS = Labels({"background": 0, "a": 1, "b": 2}, {"all": (1, 2), "b": (2,)}, (1, 2))


def mean(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else math.nan


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("labels", "keys"), [(CLASSES, {"1": (1,), "2": (2,)}), (REGIONS, {"(1, 2)": (1, 2), "2": (2,)})]
)
def test_figures_are_those_of_nnunet(seed: int, labels: Labels, keys: dict[str, tuple[int, ...]]) -> None:
    rng = np.random.default_rng(seed)
    cases, expected = [], []
    for number in range(3):
        most = rng.integers(1, 4, 2)  # sometimes a class is nowhere
        truth, prediction = (rng.integers(0, top, (4, 5, 6)).astype(np.uint8) for top in most)
        options = {"case": str(number), "labels": labels, "spacing_mm": (1.0, 1.0, 1.0), "tolerance_mm": 1.0}
        cases.append((f"t{number}", f"p{number}", score_case(prediction, truth, **options), truth.size))
        row = {}
        for key, values in keys.items():
            true, found = np.isin(truth, values), np.isin(prediction, values)
            tp, fp, fn = (int(one.sum()) for one in (true & found, ~true & found, true & ~found))
            there = tp + fp + fn > 0
            row[key] = {
                "Dice": 2 * tp / (2 * tp + fp + fn) if there else math.nan,
                "IoU": tp / (tp + fp + fn) if there else math.nan,
                "TP": tp, "FP": fp, "FN": fn, "TN": int((~true & ~found).sum()),
                "n_pred": tp + fp, "n_ref": tp + fn,
            }  # fmt: skip
        expected.append(row)
    summary = nnunet_summary(cases, labels)
    assert [row["prediction_file"] for row in summary["metric_per_case"]] == ["p0", "p1", "p2"]
    for row, right in zip(summary["metric_per_case"], expected, strict=True):
        assert row["metrics"].keys() == right.keys()
        for key in right:
            assert row["metrics"][key] == pytest.approx(right[key], nan_ok=True)
    dice = [mean(row[key]["Dice"] for row in expected) for key in keys]
    assert [summary["mean"][key]["Dice"] for key in keys] == pytest.approx(dice, nan_ok=True)
    assert summary["foreground_mean"]["Dice"] == pytest.approx(sum(dice) / len(dice), nan_ok=True)
