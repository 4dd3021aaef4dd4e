"""Showing a patch longer along one axis than along another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import validate_call

from medseg.core.types import Factors, Fraction
from medseg.data.training.augment.base import Spatial, Warp, log_uniform


class Stretch(Spatial):
    """A factor along each axis, drawn evenly on a logarithmic scale: bodies differ in shape, and pictures in aspect.

    Args:
        stretch: Smallest and largest factor by which what a patch shows is enlarged along an axis.
        stretch_probability: Share of the patches that are stretched.
    """

    @validate_call
    def __init__(self, stretch: Factors = [0.9, 1.1], stretch_probability: Fraction = 0.0) -> None:
        super().__init__(stretch_probability)
        self.stretch = stretch

    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        return Warp(matrix=np.diag(1 / log_uniform(random, self.stretch, len(spacing))))

    def reach(self, halves: Sequence[float]) -> list[float]:
        return [half / min(self.stretch[0], 1.0) for half in halves]
