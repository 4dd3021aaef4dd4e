"""Showing a patch larger or smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import validate_call

from medseg.core.types import Factors, Fraction
from medseg.data.training.augment.base import Spatial, Warp, log_uniform


class Scale(Spatial):
    """The same factor along every axis, drawn evenly on a logarithmic scale.

    Args:
        scale: Smallest and largest factor by which what a patch shows is enlarged.
        scale_probability: Share of the patches that are scaled.
    """

    @validate_call
    def __init__(self, scale: Factors = [0.8, 1.25], scale_probability: Fraction = 0.3) -> None:
        super().__init__(scale_probability)
        self.scale = scale

    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        return Warp(matrix=np.eye(len(spacing)) / log_uniform(random, self.scale))

    def reach(self, halves: Sequence[float]) -> list[float]:
        return [half / min(self.scale[0], 1.0) for half in halves]
