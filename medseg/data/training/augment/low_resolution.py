"""An image as a coarser scan would show it."""

from __future__ import annotations

import numpy as np
from pydantic import validate_call

from medseg.core.types import Fraction, Proportions
from medseg.data.training.augment.axes import AxisFilter


class LowResolution(AxisFilter):
    """Linear interpolation to fewer voxels and back.

    Args:
        low_resolution_zoom: Smallest and largest share of the voxels along an axis that are kept; 1 is the image's own
            resolution.
        low_resolution_probability: Share of the patches that lose resolution.
    """

    @validate_call
    def __init__(
        self, low_resolution_zoom: Proportions = [0.5, 1.0], low_resolution_probability: Fraction = 0.1
    ) -> None:
        super().__init__(low_resolution_zoom, low_resolution_probability)

    def matrix(self, n: int, strength: float) -> np.ndarray:
        coarse = max(1, round(n * strength))
        return resize_matrix(n, coarse) @ resize_matrix(coarse, n)


def resize_matrix(size: int, n: int) -> np.ndarray:
    """`(size, n)`: linear interpolation of n voxels to `size` over the same extent."""
    position = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    below = np.minimum(position.astype(int), max(n - 2, 0))
    matrix = np.zeros((size, n))
    rows = np.arange(size)
    np.add.at(matrix, (rows, below), 1 - (position - below))
    np.add.at(matrix, (rows, np.minimum(below + 1, n - 1)), position - below)
    return matrix
