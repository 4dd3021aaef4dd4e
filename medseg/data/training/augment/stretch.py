"""Showing a patch longer along one axis than along another."""

from __future__ import annotations

import numpy as np
from pydantic import validate_call

from medseg.core.types import Factors, Fraction
from medseg.data.training.augment.base import AxisFactors, log_uniform


class Stretch(AxisFactors):
    """A factor along each axis, drawn evenly on a logarithmic scale: bodies differ in shape, and pictures in aspect.

    Args:
        stretch: Smallest and largest factor by which what a patch shows is enlarged along an axis.
        stretch_probability: Share of the patches that are stretched.
    """

    @validate_call
    def __init__(self, stretch: Factors = [0.9, 1.1], stretch_probability: Fraction = 0.0) -> None:
        super().__init__(stretch, stretch_probability)

    def each(self, random: np.random.Generator, dims: int) -> np.ndarray:
        return np.asarray(log_uniform(random, self.factors, dims))
