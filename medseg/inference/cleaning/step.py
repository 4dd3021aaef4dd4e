"""What a cleaning step is, and how one finds out on held-out masks what there is for it to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medseg.core.fast import components
from medseg.core.labels import Labels
from medseg.core.types import Positive
from medseg.inference.cleaning.masks import inside

ROUNDING = 1e-6  # of a voxel: a component of exactly the least volume stays
MOST_THRESHOLDS = 8


@dataclass(frozen=True)
class HeldOut:
    """A target in the mask of a case that training did not see, beside its label.

    Args:
        mask, truth: label values `(*spatial)`.
        voxel_ml: volume of a voxel; None in two dimensions.
    """

    mask: np.ndarray
    truth: np.ndarray
    labels: Labels
    target: str
    voxel_ml: float | None

    @cached_property
    def found(self) -> np.ndarray:
        """Where the target is in the mask."""
        return inside(self.mask, self.labels.targets[self.target])

    @cached_property
    def true(self) -> np.ndarray:
        """Where it is in the label."""
        return inside(self.truth, self.labels.targets[self.target])

    @cached_property
    def invented(self) -> list[int]:
        """Voxels of each component in the mask that touches neither the truth nor what is ignored."""
        parts, number = components(self.found)
        sizes = np.bincount(parts.ravel(), minlength=number + 1)
        known = parts[self.true | inside(self.truth, self.labels.ignored)]
        return [int(sizes[part]) for part in np.setdiff1d(np.arange(1, number + 1), known)]


class CleaningStep(ABC):
    """A step on a finished mask, for one target. Its docstring says what its key in a config holds.

    A step without arguments is asked for by a list of targets; one with an argument by a value of it for each target.

    `WORDS` name it to a person, with `{target}` and its argument; `NEEDS_VOLUME`: it makes no sense of a picture.
    """

    WORDS = ""
    NEEDS_VOLUME = False

    @abstractmethod
    def __call__(self, mask: np.ndarray, labels: Labels, target: str, voxel_ml: float) -> np.ndarray:
        """The mask after it; `mask`, label values `(*spatial)`, stays as it is."""

    @classmethod
    def scope(cls, held: HeldOut) -> Sequence[float]:
        """What there is for it to do in a held-out mask, in the unit of its argument; nothing where it is empty.

        Of a step without an argument: whether it changes the mask.
        """
        if not held.found.any():
            return []
        return [1.0] if (cls()(held.mask, held.labels, held.target, 1.0) != held.mask).any() else []

    @classmethod
    def candidates(cls, scopes: Sequence[float]) -> Sequence[float | None]:
        """The values of its argument that are worth trying, given all there is to do; None where it has none."""
        return [None] if scopes else []


class VolumeStep(CleaningStep):
    """A step with a least volume.

    Args:
        ml: what is smaller is removed.
    """

    NEEDS_VOLUME = True

    def __init__(self, ml: Positive) -> None:
        self.ml = ml

    @classmethod
    @abstractmethod
    def scope(cls, held: HeldOut) -> Sequence[float]:
        """The volumes that had better be removed, in ml."""

    @classmethod
    def candidates(cls, scopes: Sequence[float]) -> Sequence[float | None]:
        return thresholds(scopes)

    def voxels(self, voxel_ml: float) -> float:
        """The least number of voxels, less what rounding may take."""
        return self.ml / voxel_ml - ROUNDING


def thresholds(volumes: Sequence[float]) -> list[float]:
    """1, 2 or 5 times a power of ten, from above the smallest of these volumes to above the largest; at most eight.

    Round numbers: between two of them no few cases decide.
    """
    if not volumes:
        return []
    low, high = min(volumes), max(volumes)
    series = [float(f"{digit}e{power}") for power in range(-9, 9) for digit in (1, 2, 5)]
    first = next(number for number, value in enumerate(series) if value > low)
    last = next(number for number, value in enumerate(series) if value > high)
    found = series[first : last + 1]
    if len(found) <= MOST_THRESHOLDS:
        return found
    return [found[round(place)] for place in np.linspace(0, len(found) - 1, MOST_THRESHOLDS)]
