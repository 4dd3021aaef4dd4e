"""All scores of an evaluation: what a mean is over, with how many cases, and one schema for JSON, CSV and report."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medseg.config.postprocess import in_words
from medseg.core.errors import DataError, Problem, RunError, did_you_mean
from medseg.core.files import replace_file
from medseg.core.tables import write_table
from medseg.metrics import METRICS
from medseg.metrics.confusion import Counts
from medseg.metrics.documents import read_document
from medseg.metrics.metric import STATES, Column, Overlap, State, load_metrics
from medseg.metrics.score import VOLUMES, CaseScore, score_case

__all__ = ["CONVENTIONS", "STATES", "CaseScore", "MetricsTable", "State", "score_case"]

CONVENTIONS = {
    "medical": "metrics per case, then the mean over the cases in which a target is in the truth or in the prediction; "
    "missed and invented targets count with {charges}; the mean over targets weighs every target alike (macro); micro "
    "pools the voxels of all cases and targets",
}
SCHEMA = "medseg-metrics/1"
"""Further columns do not raise the number: a reader keeps what it does not know, and does without what is missing."""
STATE_HEADS = {"missed": "missed", "false_positive_only": "FP only", "absent": "absent"}


class MetricsTable:
    """All scores of an evaluation, what they sum up to, and their files.

    Args:
        scores: one a case and target, of `score_case`.
        convention: how averages are formed, named in every output; see `CONVENTIONS`.
        postprocessing: the steps that cleaned the masks, named in every output; empty or None: there were none.
        columns: how metrics are shown that are neither medseg's own nor of an installed package.
    """

    def __init__(
        self,
        scores: Sequence[CaseScore],
        *,
        convention: str = "medical",
        postprocessing: Mapping[str, Any] | None = None,
        columns: Mapping[str, Column] | None = None,
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
        measured = dict.fromkeys(name for score in scores for name in score.metrics)
        more = [name for name in measured if name not in METRICS.own]
        columns = dict(columns or {})
        known = load_metrics(name for name in more if name not in columns and name in METRICS)
        self.columns = {name: metric.column for name, metric in known.items()}
        self.columns |= {name: columns.get(name, Column(name)) for name in more if name not in known}
        self.overlaps = {name: metric for name, metric in known.items() if isinstance(metric, Overlap)}

    @classmethod
    def joined(cls, tables: Sequence[MetricsTable]) -> MetricsTable:
        """One table of other cases each; the convention is that of the first.

        Raises:
            RunError: their masks were not post-processed alike.
        """
        if any(table.postprocessing != tables[0].postprocessing for table in tables):
            remedy = "medseg postprocess makes one decision for all; --no-postprocess leaves any out"
            raise RunError("the masks of these folds were cleaned by different steps", remedy)
        return cls(
            [score for table in tables for score in table.scores],
            convention=tables[0].convention,
            postprocessing=tables[0].postprocessing,
            columns={name: column for table in tables for name, column in table.columns.items()},
        )

    @property
    def convention_text(self) -> str:
        """The convention in words."""
        named: dict[str, list[str]] = {}
        for column in self.columns.values():
            named.setdefault(column.charge, []).append(column.title)
        others = [f"{charge} as {' and '.join(titles)}" for charge, titles in named.items() if charge != "0"]
        return CONVENTIONS[self.convention].format(charges=" and ".join(["ratios of 0", *others]))

    def matrix(self, metric: str) -> np.ndarray:
        """One metric, or volume, as (cases, targets) of float64, NaN where it does not count."""
        values = np.full((len(self.cases), len(self.targets)), np.nan)
        rows = {case: row for row, case in enumerate(self.cases)}
        columns = {target: column for column, target in enumerate(self.targets)}
        for score in self.scores:
            value = getattr(score, metric) if metric in VOLUMES else score.metrics.get(metric)
            if score.state != "absent" and value is not None:
                values[rows[score.case], columns[score.target]] = value
        return values

    def summary(self) -> dict[str, Any]:
        """Means with counts, per target and over targets, each with a bootstrap 95 % interval over cases.

        A mean is None where no case counts. `mean_dice` is the mean of the targets' means (macro), `mean_iou` likewise
        (mIoU); `micro` comes from voxels pooled over cases and targets. Where some of the `n` cases of a target lack a
        metric, `n_of` says how many have it.
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
        for metric in self.columns:
            values = self.matrix(metric)
            per_target, over_targets = _means(values, np.ones((1, len(values))))
            lows, highs, low, high = _intervals(values)
            for column, target in enumerate(self.targets):
                row, there = targets[target], int((~np.isnan(values[:, column])).sum())
                row[metric] = _plain(per_target[0, column])
                row["ci95"][metric] = _interval(lows[column], highs[column])
                if there < row["n"]:
                    row.setdefault("n_of", {})[metric] = there
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
            targets[target]["micro"] = self._ratios(counts)
        return {
            "schema": SCHEMA,
            "convention": self.convention,
            "convention_text": self.convention_text,
            "metrics": {name: asdict(column) for name, column in self.columns.items()},
            "tolerance_mm": self.tolerance_mm,
            **({"postprocessing": self.postprocessing} if self.postprocessing else {}),
            "cases": len(self.cases),
            "targets": targets,
            **{f"mean_{metric}": mean for metric, mean in means.items()},
            "ci95": intervals,
            "macro": {metric: means[metric] for metric in self.overlaps},
            "micro": self._ratios(sum(pooled.values(), Counts())),
        }

    def _ratios(self, counts: Counts) -> dict[str, float | None]:
        """Overlap of pooled voxels; None where there is no voxel at all."""
        there = counts.predicted or counts.true
        return {name: metric.of(counts) if there else None for name, metric in self.overlaps.items()}

    @property
    def finds_nothing(self) -> bool:
        """Whether every target that the truth has is missed in every case: not a single voxel is right."""
        true = [score.counts for score in self.scores if score.counts.true]
        return bool(true) and not any(counts.true_positives for counts in true)

    def ranking(self) -> list[str]:
        """Cases from worst to best by mean Dice, then HD95; cases without any counted target are left out."""
        dice, hd95 = self.matrix("dice"), self.matrix("hd95_mm")
        counted = np.flatnonzero(~np.isnan(dice).all(axis=1)) if dice.size else np.array([], dtype=int)
        far = np.nan_to_num(hd95).sum(axis=1) / np.maximum((~np.isnan(hd95)).sum(axis=1), 1)  # a file may lack it
        order = sorted(counted, key=lambda row: (np.nanmean(dice[row]), -far[row], self.cases[row]))
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
        rows = [score.row(self.columns) for score in self.scores]
        document = json.dumps({**self.summary(), "scores": rows}, indent=2, allow_nan=False)
        replace_file(folder / "metrics.json", document + "\n")
        names = dict.fromkeys(name for row in rows for name in row if name != "convention")
        convened = [{**row, "convention": self.convention} for row in rows]
        write_table(folder / "metrics.csv", convened, [*names, "convention"])

    @classmethod
    def read(cls, folder: Path) -> MetricsTable:
        """The table that `write` put into a folder, in this version or another.

        Metrics that the file does not hold are missing in its scores; columns that it does not call metrics are kept.

        Raises:
            DataError: a missing or foreign file.
        """
        with read_document(folder / "metrics.json", SCHEMA) as document:
            columns = {name: Column.from_dict(name, told) for name, told in document.get("metrics", {}).items()}
            scores = [CaseScore.from_row(row, {**METRICS.own, **columns}) for row in document["scores"]]
            more = {"convention": document["convention"], "postprocessing": document.get("postprocessing")}
            return cls(scores, columns=columns, **more)

    def text(self) -> str:
        """The summary as aligned columns for a terminal."""
        summary = self.summary()
        head = ["target", "n", *STATE_HEADS.values()]
        lines = [[*head, *self._headings()]]
        for target, row in summary["targets"].items():
            states = (str(row["states"][state]) for state in STATE_HEADS)
            lines.append([target, str(row["n"]), *states, *self._cells(row, "")])
        lines.append(["mean (macro)", *("" for _ in head[1:]), *self._cells(summary, "mean_")])
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        table = [
            "  ".join(
                cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(row)
            )
            for row in (zip(line, widths, strict=True) for line in lines)
        ]
        micro = (f"{self.columns[name].title} {_number(value)}" for name, value in summary["micro"].items())
        convention = f"convention: {self.convention} ({self.convention_text})"
        table += [
            f"micro (pooled voxels): {', '.join(micro)}",
            *self.fewer_cases(summary),
            *textwrap.wrap(f"{summary['cases']} cases; {convention}", 118),
            *([f"masks cleaned: {in_words(self.postprocessing)}"] if self.postprocessing else []),
        ]
        return "\n".join(table)

    def fewer_cases(self, summary: Mapping[str, Any]) -> list[str]:
        """A sentence for each metric that some cases lack, of a `summary` of this table."""
        lines = []
        for name, column in self.columns.items():
            counts = [
                f"{row['n_of'][name]} of {row['n']} ({target})"
                for target, row in summary["targets"].items()
                if name in row.get("n_of", {})
            ]
            if counts:
                lines.append(f"{column.title} is missing in some cases, and counted in {', '.join(counts)}")
        return lines

    def _headings(self) -> list[str]:
        first, *others = (column.heading(self.tolerance_mm) for column in self.columns.values())
        return [first, "95 % CI", *others]

    def _cells(self, row: Mapping[str, Any], prefix: str) -> list[str]:
        """The figures below `_headings`."""
        first, *others = (_number(row[prefix + name], column.digits) for name, column in self.columns.items())
        interval = row["ci95"][next(iter(self.columns))]
        return [first, "-" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}", *others]


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


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _interval(low: float, high: float) -> list[float] | None:
    return None if math.isnan(low) or math.isnan(high) else [float(low), float(high)]


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
