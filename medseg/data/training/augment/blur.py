"""Blurring an image."""

from __future__ import annotations

import numpy as np
from pydantic import validate_call

from medseg.core.types import Factors, Fraction
from medseg.data.training.augment.axes import AxisFilter


class Blur(AxisFilter):
    """A Gaussian, with the border repeated outside.

    Args:
        blur_sigma_voxels: Smallest and largest standard deviation of the Gaussian.
        blur_probability: Share of the patches that are blurred.
    """

    @validate_call
    def __init__(self, blur_sigma_voxels: Factors = [0.5, 1.0], blur_probability: Fraction = 0.1) -> None:
        super().__init__(blur_sigma_voxels, blur_probability)

    def matrix(self, n: int, strength: float) -> np.ndarray:
        radius = int(np.ceil(3 * strength))
        steps = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (steps / strength) ** 2)
        matrix = np.zeros((n, n))
        for step, weight in zip(steps, weights / weights.sum(), strict=True):
            np.add.at(matrix, (np.arange(n), np.clip(np.arange(n) + step, 0, n - 1)), weight)
        return matrix
