"""The figures of a benchmark from its tally: per class, per category and their means, as JSON or as a table."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medseg.metrics.benchmarks import CONVENTIONS, Benchmark, Tally

SCHEMA = "medseg-benchmark/1"
NAMES = {
    "mean_iou": "mean IoU",
    "mean_dice": "mean Dice (F1)",
    "mean_class_accuracy": "mean class accuracy",
    "pixel_accuracy": "pixel accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "score": "score",
    "mean_category_iou": "mean category IoU",
    "mean_iiou": "mean iIoU",
    "mean_category_iiou": "mean category iIoU",
}


class BenchmarkTable:
    """The figures of one benchmark.

    Args:
        benchmark: what is scored, and by whose rules.
        tally: what was counted on all images.
    """

    def __init__(self, benchmark: Benchmark, tally: Tally) -> None:
        self.benchmark, self.tally = benchmark, tally
        self.convention = benchmark.convention
        classes = len(benchmark.labels.values)
        counted = tally.matrix[:classes]  # the pixels whose truth is evaluated
        self.true = counted.sum(axis=1)
        self.predicted = counted.sum(axis=0)[:classes]
        self.right = counted.diagonal()
        self._counted = counted
        self._index = {value: place for place, value in enumerate(benchmark.values)}

    def summary(self) -> dict[str, Any]:
        """Every figure as plain data; None is a figure that the convention leaves undefined.

        `accuracy` of a class is TP / (TP + FN), undefined where the truth has none of it; its mean is over the others.
        """
        absent = 0.0 if self.convention == "ade20k" else math.nan
        iou = _ratio(self.right, self.true + self.predicted - self.right, absent)
        dice = _ratio(2 * self.right, self.true + self.predicted, absent)
        accuracy = _ratio(self.right, self.true, math.nan)
        names = list(self.benchmark.labels.classes)
        figures = {
            "mean_iou": self._mean(iou),
            "mean_dice": self._mean(dice),
            "mean_class_accuracy": _mean_of_defined(accuracy),
            "pixel_accuracy": float(_ratio(self.right.sum(), self.true.sum(), math.nan)),
            "frequency_weighted_iou": float(_ratio((self.true * np.nan_to_num(iou)).sum(), self.true.sum(), math.nan)),
        }
        if self.convention == "ade20k":
            figures["score"] = (figures["pixel_accuracy"] + figures["mean_iou"]) / 2
        classes: dict[str, dict[str, Any]] = {
            name: {
                "iou": iou[k],
                "dice": dice[k],
                "accuracy": accuracy[k],
                "pixels": int(self.true[k]),
                "predicted_pixels": int(self.predicted[k]),
                "state": _state(self.true[k], self.predicted[k]),
            }
            for k, name in enumerate(names)
        }
        categories = self._categories() if self.convention == "cityscapes" else {}
        if categories:
            figures["mean_category_iou"] = _mean_of_defined([row["iou"] for row in categories.values()])
        if categories and self.tally.instances is not None:
            for name, value in self.benchmark.labels.classes.items():
                if value in self.benchmark.instance_pixels:
                    classes[name]["iiou"] = self._iiou([value], "found")
            for name, rows in (("mean_iiou", classes), ("mean_category_iiou", categories)):
                figures[name] = _mean_of_defined([row["iiou"] for row in rows.values() if "iiou" in row])
        return {
            "schema": SCHEMA,
            "convention": self.convention,
            "convention_text": CONVENTIONS[self.convention],
            "cases": self.tally.cases,
            "pixels": int(self.true.sum()),
            **_plain(figures),
            "absent": [name for name in names if classes[name]["state"] == "absent"],
            "classes": {name: _plain(row) for name, row in classes.items()},
            **({"categories": {name: _plain(row) for name, row in categories.items()}} if categories else {}),
        }

    def _mean(self, values: np.ndarray) -> float:
        """Over classes: VOC's program has no rule for a class that is absent, so one leaves its mean undefined."""
        return float(values.mean()) if self.convention == "voc" else _mean_of_defined(values)

    def _categories(self) -> dict[str, dict[str, float]]:
        """IoU of every category with an evaluated class, and iIoU where all its classes have objects."""
        benchmark = self.benchmark
        groups: dict[str, list[int]] = {}
        for value, category in benchmark.categories.items():
            groups.setdefault(category, []).append(value)
        rows = {}
        for name, group in groups.items():
            if inside := [value for value in group if value in benchmark.labels.values]:
                right = self._pixels(inside, inside)
                missed = self._pixels(inside, benchmark.values) - right
                rows[name] = {"iou": _iou(right, self._invented(inside, inside), missed)}
                if self.tally.instances is not None and set(group) <= set(benchmark.instance_pixels):
                    rows[name]["iiou"] = self._iiou(group, "found_category")
        return rows

    def _iiou(self, group: Sequence[int], found: str) -> float:
        """iIoU of some classes as one; those among them that are not evaluated (caravan, trailer) can be predicted."""
        terms = [
            (self.benchmark.instance_pixels[one.value] / one.pixels, getattr(one, found), one.pixels)
            for one in self.tally.instances or ()
            if one.value in group
        ]
        right = math.fsum(weight * found for weight, found, _ in terms)
        missed = math.fsum(weight * (pixels - found) for weight, found, pixels in terms)
        inside = [value for value in group if value in self.benchmark.labels.values]
        return _iou(right, self._invented(inside, group), missed)

    def _pixels(self, true: Sequence[int], predicted: Sequence[int]) -> int:
        """Pixels of some evaluated classes that are predicted as some values."""
        rows, columns = ([self._index[value] for value in values] for values in (true, predicted))
        return int(self._counted[np.ix_(rows, columns)].sum())

    def _invented(self, inside: Sequence[int], predicted: Sequence[int]) -> int:
        """Pixels of the other evaluated classes that are predicted as some values."""
        return self._pixels([value for value in self.benchmark.labels.values if value not in inside], predicted)

    def text(self) -> str:
        """The summary as aligned columns for a terminal."""
        summary = self.summary()
        with_objects = "mean_iiou" in summary
        head = ["class", "IoU", "Dice", "accuracy", *(["iIoU"] if with_objects else []), "pixels", ""]
        keys = ["iou", "dice", "accuracy", *(["iiou"] if with_objects else [])]
        notes = {"scored": "", "missed": "missed", "false_positive_only": "false positives only", "absent": "absent"}
        lines = [
            [name, *(_number(row.get(key)) for key in keys), f"{row['pixels']:,}", notes[row["state"]]]
            for name, row in summary["classes"].items()
        ]
        table = _aligned([head, *lines])
        if "categories" in summary:
            keys = ["iou", *(["iiou"] if with_objects else [])]
            rows = [[name, *(_number(row.get(key)) for key in keys)] for name, row in summary["categories"].items()]
            table += ["", *_aligned([["category", "IoU", "iIoU"][: 1 + len(keys)], *rows])]
        means = [[NAMES[key], _number(summary[key])] for key in NAMES if key in summary]
        table += ["", *_aligned(means)]
        if self.convention == "voc" and summary["absent"]:
            table += textwrap.wrap(f"no mean: neither truth nor prediction has {', '.join(summary['absent'])}", 118)
        cases = f"{self.tally.cases} case{'s' * (self.tally.cases != 1)}"
        about = f"{cases}; convention: {self.convention} ({CONVENTIONS[self.convention]})"
        return "\n".join([*table, *textwrap.wrap(about, 118)])


def _ratio(part: np.ndarray, whole: np.ndarray, undefined: float) -> np.ndarray:
    whole = np.asarray(whole)
    return np.divide(part, whole, out=np.full(whole.shape, undefined), where=whole > 0)


def _iou(right: float, invented: float, missed: float) -> float:
    whole = right + invented + missed
    return right / whole if whole else math.nan


def _mean_of_defined(values: Sequence[float] | np.ndarray) -> float:
    defined = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def _state(true: int, predicted: int) -> str:
    """As `metrics/score.py` calls it: what is there at all, in all images together."""
    if true and predicted:
        return "scored"
    return "missed" if true else "false_positive_only" if predicted else "absent"


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row for JSON: Python's numbers, None where a figure is undefined."""
    return {
        key: value if not isinstance(value, float) else None if math.isnan(value) else float(value)
        for key, value in row.items()
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = (zip(line, widths, strict=True) for line in lines)
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(row)
        ).rstrip()
        for row in rows
    ]
