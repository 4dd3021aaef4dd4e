"""Moving what a patch shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import validate_call

from medseg.core.types import Deviation, Fraction
from medseg.data.training.augment.base import Spatial, Warp


class Shift(Spatial):
    """Another place in the patch, for images that are one patch each: their crops never differ.

    Args:
        shift_voxels: Largest shift along each axis, either way.
        shift_probability: Share of the patches that are shifted.
    """

    @validate_call
    def __init__(self, shift_voxels: Deviation = 8.0, shift_probability: Fraction = 0.0) -> None:
        super().__init__(shift_probability)
        self.voxels = shift_voxels

    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        return Warp(shift=random.uniform(-self.voxels, self.voxels, len(spacing)))

    def reach(self, halves: Sequence[float]) -> list[float]:
        return [half + self.voxels for half in halves]
