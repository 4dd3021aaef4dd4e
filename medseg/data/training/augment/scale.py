"""Showing a patch larger or smaller."""

from __future__ import annotations

import numpy as np
from pydantic import validate_call

from medseg.core.types import Factors, Fraction
from medseg.data.training.augment.base import AxisFactors, log_uniform


class Scale(AxisFactors):
    """The same factor along every axis, drawn evenly on a logarithmic scale.

    Args:
        scale: Smallest and largest factor by which what a patch shows is enlarged.
        scale_probability: Share of the patches that are scaled.
    """

    @validate_call
    def __init__(self, scale: Factors = [0.8, 1.25], scale_probability: Fraction = 0.3) -> None:
        super().__init__(scale, scale_probability)

    def each(self, random: np.random.Generator, dims: int) -> np.ndarray:
        return np.full(dims, log_uniform(random, self.factors))
