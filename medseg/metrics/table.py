"""All scores of an evaluation: what a mean is over, with how many cases, and one schema for JSON, CSV and report."""

from __future__ import annotations

import csv
import json
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from medseg.config.postprocess import in_words
from medseg.core.errors import DataError, Problem, did_you_mean
from medseg.core.files import replace_file, replacing
from medseg.metrics.confusion import Counts
from medseg.metrics.score import METRICS, STATES, VOLUMES, CaseScore, State, score_case

__all__ = ["CONVENTIONS", "METRICS", "STATES", "CaseScore", "MetricsTable", "State", "score_case"]

CONVENTIONS = {
    "medical": "metrics per case, then the mean over the cases in which a target is in the truth or in the prediction; "
    "missed and invented targets count with ratios of 0 and the image's diagonal as HD95; the mean over targets weighs "
    "every target alike (macro); micro pools the voxels of all cases and targets",
}
SCHEMA = "medseg-metrics/1"


class MetricsTable:
    """All scores of an evaluation, what they sum up to, and their files.

    Args:
        scores: one a case and target, of `score_case`.
        convention: how averages are formed, named in every output; see `CONVENTIONS`.
        postprocessing: the steps that cleaned the masks, named in every output; empty or None: there were none.
    """

    def __init__(
        self,
        scores: Sequence[CaseScore],
        *,
        convention: str = "medical",
        postprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        if convention not in CONVENTIONS:
            raise DataError(f"unknown convention {convention!r}", did_you_mean(convention, CONVENTIONS))
        repeated = [pair for pair, times in Counter((s.case, s.target) for s in scores).items() if times > 1]
        if repeated:
            raise DataError([Problem(case, f"target {target!r} is scored twice") for case, target in repeated])
        if len({s.tolerance_mm for s in scores}) > 1:
            raise DataError("scores with different tolerances of the surface Dice cannot share a table")
        self.scores = list(scores)
        self.convention = convention
        self.postprocessing = dict(postprocessing or {})
        self.cases = list(dict.fromkeys(s.case for s in scores))
        self.targets = list(dict.fromkeys(s.target for s in scores))
        self.tolerance_mm = scores[0].tolerance_mm if scores else None

    def matrix(self, metric: str) -> np.ndarray:
        """One metric as (cases, targets) of float64, NaN where it does not count."""
        values = np.full((len(self.cases), len(self.targets)), np.nan)
        rows = {case: row for row, case in enumerate(self.cases)}
        columns = {target: column for column, target in enumerate(self.targets)}
        for score in self.scores:
            value = getattr(score, metric)
            if score.state != "absent" and value is not None:
                values[rows[score.case], columns[score.target]] = value
        return values

    def summary(self) -> dict[str, Any]:
        """Means with counts, per target and over targets, each with a bootstrap 95 % interval over cases.

        A mean is None where no case counts. `mean_dice` is the mean of the targets' means (macro), `mean_iou` likewise
        (mIoU); `micro` comes from voxels pooled over cases and targets.
        """
        states = {target: Counter[str](s.state for s in self.scores if s.target == target) for target in self.targets}
        targets: dict[str, dict[str, Any]] = {
            target: {
                "n": sum(states[target].values()) - states[target]["absent"],
                "states": {state: states[target][state] for state in STATES},
                "ci95": {},
            }
            for target in self.targets
        }
        means: dict[str, float | None] = {}
        intervals: dict[str, list[float] | None] = {}
        for metric in METRICS:
            values = self.matrix(metric)
            per_target, over_targets = _means(values, np.ones((1, len(values))))
            lows, highs, low, high = _intervals(values)
            for column, target in enumerate(self.targets):
                targets[target][metric] = _plain(per_target[0, column])
                targets[target]["ci95"][metric] = _interval(lows[column], highs[column])
            means[metric] = _plain(over_targets[0])
            intervals[metric] = _interval(low, high)
        for volume in VOLUMES:
            per_target, _ = _means(self.matrix(volume), np.ones((1, len(self.cases))))
            for column, target in enumerate(self.targets):
                targets[target][volume] = _plain(per_target[0, column])
        pooled = {
            target: sum((s.counts for s in self.scores if s.target == target), Counts()) for target in self.targets
        }
        for target, counts in pooled.items():
            targets[target]["micro"] = _ratios(counts)
        return {
            "schema": SCHEMA,
            "convention": self.convention,
            "convention_text": CONVENTIONS[self.convention],
            "tolerance_mm": self.tolerance_mm,
            **({"postprocessing": self.postprocessing} if self.postprocessing else {}),
            "cases": len(self.cases),
            "targets": targets,
            **{f"mean_{metric}": mean for metric, mean in means.items()},
            "ci95": intervals,
            "macro": {metric: means[metric] for metric in ("dice", "iou", "precision", "recall")},
            "micro": _ratios(sum(pooled.values(), Counts())),
        }

    def ranking(self) -> list[str]:
        """Cases from worst to best by mean Dice, then HD95; cases without any counted target are left out."""
        dice, hd95 = self.matrix("dice"), self.matrix("hd95_mm")
        counted = np.flatnonzero(~np.isnan(dice).all(axis=1)) if dice.size else np.array([], dtype=int)
        order = sorted(counted, key=lambda row: (np.nanmean(dice[row]), -np.nanmean(hd95[row]), self.cases[row]))
        return [self.cases[row] for row in order]

    def extremes(self, count: int = 2) -> dict[str, list[str]]:
        """The `count` worst, median and best cases, none of them twice: what a reader should look at first."""
        ranked = self.ranking()
        worst, rest = ranked[:count], ranked[count:]
        best, middle = rest[::-1][:count], rest[: max(len(rest) - count, 0)]
        start = max((len(middle) - count + 1) // 2, 0)
        return {"worst": worst, "median": middle[start : start + count], "best": best}

    def write(self, folder: Path) -> None:
        """Write `metrics.json` (summary and rows) and `metrics.csv` (rows); NaN in neither: null, or empty."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [asdict(score) for score in self.scores]
        document = json.dumps({**self.summary(), "scores": rows}, indent=2, allow_nan=False)
        replace_file(folder / "metrics.json", document + "\n")
        with replacing(folder / "metrics.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*(field.name for field in fields(CaseScore)), "convention"])
            writer.writeheader()
            writer.writerows({**row, "convention": self.convention} for row in rows)

    @classmethod
    def read(cls, folder: Path) -> MetricsTable:
        """The table that `write` put into a folder; a missing or foreign file is a DataError."""
        path = folder / "metrics.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']!r}, expected {SCHEMA!r}")
            more = {"convention": document["convention"], "postprocessing": document.get("postprocessing")}
            return cls([CaseScore(**row) for row in document["scores"]], **more)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(Problem(str(path), f"not a metrics table: {error}", "run medseg evaluate again")) from error

    def text(self) -> str:
        """The summary as aligned columns for a terminal."""
        summary = self.summary()
        tolerance = "" if self.tolerance_mm is None else f" {self.tolerance_mm:g} mm"
        head = ["target", "n", "missed", "FP only", "absent", "Dice", "95 % CI", "IoU", "precision", "recall"]
        lines = [[*head, "HD95 mm", f"surface Dice{tolerance}"]]
        for target, row in summary["targets"].items():
            states = (str(row["states"][state]) for state in ("missed", "false_positive_only", "absent"))
            lines.append([target, str(row["n"]), *states, *_cells(row, "")])
        lines.append(["mean (macro)", "", "", "", "", *_cells(summary, "mean_")])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        table = [
            "  ".join(
                cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(row)
            )
            for row in (zip(line, widths, strict=True) for line in lines)
        ]
        micro = summary["micro"]
        table += [
            f"micro (pooled voxels): Dice {_number(micro['dice'])}, IoU {_number(micro['iou'])}, "
            f"precision {_number(micro['precision'])}, recall {_number(micro['recall'])}",
            *textwrap.wrap(
                f"{summary['cases']} cases; convention: {self.convention} ({CONVENTIONS[self.convention]})", 118
            ),
            *([f"masks cleaned: {in_words(self.postprocessing)}"] if self.postprocessing else []),
        ]
        return "\n".join(table)


def _means(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means over cases (resamples, targets), and of those over targets (resamples,); NaN if none count."""
    counts = weights @ ~np.isnan(values)
    sums = weights @ np.nan_to_num(values)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    there = ~np.isnan(means)
    number = there.sum(axis=1)
    over = np.divide(np.nansum(means, axis=1), number, out=np.full(len(means), np.nan), where=number > 0)
    return means, over


def _intervals(values: np.ndarray, resamples: int = 1000) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Percentile bootstrap over cases, the same resamples for every target and metric, and every time."""
    cases, targets = values.shape
    none = np.full(targets, np.nan)
    if cases < 2 or not targets:
        return none, none, math.nan, math.nan
    weights = np.random.default_rng(0).multinomial(cases, np.full(cases, 1 / cases), size=resamples)
    means, over = _means(values, weights.astype(float))
    edges = [2.5, 97.5]
    columns = [column[~np.isnan(column)] for column in (*means.T, over)]
    pairs = [np.percentile(column, edges) if column.size else (math.nan, math.nan) for column in columns]
    # One case has no spread to resample: an interval of zero width would pretend certainty.
    several = (~np.isnan(values)).sum(axis=0) > 1
    lows = np.where(several, [pair[0] for pair in pairs[:-1]], np.nan)
    highs = np.where(several, [pair[1] for pair in pairs[:-1]], np.nan)
    return lows, highs, *pairs[-1]


def _ratios(counts: Counts) -> dict[str, float | None]:
    """Overlap ratios of pooled voxels; None where there is no voxel at all."""
    names = ("dice", "iou", "precision", "recall")
    return {name: getattr(counts, name) if counts.predicted or counts.true else None for name in names}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _interval(low: float, high: float) -> list[float] | None:
    return None if math.isnan(low) or math.isnan(high) else [float(low), float(high)]


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _cells(row: dict[str, Any], prefix: str) -> list[str]:
    interval = row["ci95"]["dice"]
    spread = "-" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"
    ratios = [_number(row[prefix + metric]) for metric in ("iou", "precision", "recall")]
    distances = [_number(row[f"{prefix}hd95_mm"], 2), _number(row[f"{prefix}surface_dice"])]
    return [_number(row[f"{prefix}dice"]), spread, *ratios, *distances]
