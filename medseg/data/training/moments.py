"""Mean and standard deviation of a volume, without a second copy of it."""

from __future__ import annotations

import numpy as np

PIECE = 2**20  # voxels that are held in float64 at a time


def moments(voxels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all voxels.

    The sums are in float64, since scanners' units reach millions, and of a piece at a time: `np.std` would hold the
    whole volume in float64, twice as much as the volume itself.
    """
    flat = voxels.ravel(order="K")  # as it lies in memory
    mean = float(flat.mean(dtype=np.float64))
    pieces = (flat[start : start + PIECE] for start in range(0, len(flat), PIECE))
    squares = sum(float(np.square(piece - np.float64(mean)).sum()) for piece in pieces)
    return mean, (squares / len(flat)) ** 0.5
