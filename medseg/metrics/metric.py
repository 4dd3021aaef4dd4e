"""What a metric is: one figure of one target of one case, and how tables show it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from medseg.core.parts import Part
from medseg.metrics import METRICS
from medseg.metrics.confusion import Counts, count
from medseg.metrics.surface import SurfaceDistances, surface_distances

State = Literal["scored", "missed", "false_positive_only", "absent"]
STATES: tuple[str, ...] = get_args(State)


@dataclass(frozen=True, eq=False)
class Comparison:
    """One target of one case; what several metrics need is computed once, when the first of them asks.

    Args:
        predicted, true: boolean maps (*spatial) of one shape, perhaps cropped: nothing of the target lies outside.
        spacing_mm: voxel size along each axis.
        diagonal_mm: of the whole image.
        tolerance_mm: of metrics that forgive small distances.
    """

    predicted: np.ndarray
    true: np.ndarray
    spacing_mm: Sequence[float]
    diagonal_mm: float
    tolerance_mm: float

    @cached_property
    def counts(self) -> Counts:
        return count(self.predicted, self.true)

    @cached_property
    def state(self) -> State:
        if self.counts.predicted and self.counts.true:
            return "scored"
        return "missed" if self.counts.true else "false_positive_only" if self.counts.predicted else "absent"

    @cached_property
    def surfaces(self) -> SurfaceDistances:
        """Only where both have a surface: in the state *scored*."""
        return surface_distances(self.predicted, self.true, self.spacing_mm)


CHARGES: dict[str, Callable[[Comparison], float]] = {
    "0": lambda found: 0.0,
    "the image's diagonal": lambda found: found.diagonal_mm,
}
"""What a missed or an invented target may count with, in words and in figures."""


@dataclass(frozen=True)
class Column:
    """How tables show a metric, and what its figures mean; `metrics.json` holds it beside them.

    Args:
        title: "Dice"; in a table the unit follows, see `heading`.
        unit: of the figures, "mm"; empty for a ratio.
        digits: after the point, in a terminal; a report shows three at most.
        higher_is_better: False: a better prediction has a lower figure.
        charge: what a missed or an invented target counts with, a key of `CHARGES`. It must be no better than what any
            prediction that overlaps can get, so that nothing improves by missing more.
        with_tolerance: whether the figures depend on the tolerance, which the heading then names.
        headline: whether a report shows its mean at the very top too.
        meaning: for a reader who does not know the metric, to follow "Dice:".
    """

    title: str
    unit: str = ""
    digits: int = 4
    higher_is_better: bool = True
    charge: str = "0"
    with_tolerance: bool = False
    headline: bool = True
    meaning: str = ""

    def heading(self, tolerance_mm: float | None = None) -> str:
        """`HD95 mm`, or `surface Dice 1 mm`: what stands over the figures."""
        tolerance = f"{tolerance_mm:g} mm" if self.with_tolerance and tolerance_mm is not None else ""
        return " ".join(part for part in (self.title, self.unit, tolerance) if part)

    @property
    def short_digits(self) -> int:
        """Digits where there is little room."""
        return min(self.digits, 3)

    @property
    def direction(self) -> str:
        return f"{'higher' if self.higher_is_better else 'lower'} is better"

    @classmethod
    def from_dict(cls, name: str, told: Any) -> Column:
        """The inverse of `asdict`, by whatever version it was written: what is not told has its default.

        Raises:
            ValueError: it says something that is no text, number or truth value.
        """
        known = asdict(cls(name))
        given = {key: told[key] for key in known if key in told} if isinstance(told, dict) else {}
        if strange := [key for key, value in given.items() if type(value) is not type(known[key])]:
            raise ValueError(f"metrics.{name}.{strange[0]} is {given[strange[0]]!r}")
        return cls(**{**known, **given})


class Metric(ABC):
    """One figure of a target that is in the truth and in the prediction; for others see `Column.charge`."""

    column: ClassVar[Column]

    @abstractmethod
    def measure(self, found: Comparison) -> float:
        """The figure, in the state *scored*; NaN where it is not defined."""

    def __call__(self, found: Comparison) -> float | None:
        """The figure in any state; None, which counts in no mean: the target is *absent*, or it is not defined."""
        if found.state == "absent":
            return None
        value = float(self.measure(found) if found.state == "scored" else CHARGES[self.column.charge](found))
        return None if math.isnan(value) else value


class Overlap(Metric):
    """A ratio of voxel counts: it can be formed of the counts of several cases and targets together as well (micro)."""

    @abstractmethod
    def of(self, counts: Counts) -> float: ...

    def measure(self, found: Comparison) -> float:
        return self.of(found.counts)


def load_metrics(names: Iterable[str] = ()) -> dict[str, Metric]:
    """Name -> metric: medseg's own, then those that installed packages bring and that are named.

    Raises:
        ConfigError: a name that is no metric.
    """
    parts: dict[str, Part] = {**METRICS.own, **{name: METRICS.find(name) for name in names}}
    return {name: part.builder()() for name, part in parts.items()}
