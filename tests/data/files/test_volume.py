"""The volume of a voxel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.data.files.images import voxel_ml

TURN = np.array([[0.6, -0.8, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    "grid",
    [
        (2.0, 3.0, 5.0),
        np.array([2.0, 3.0, 5.0]),
        np.diag([2.0, 3.0, 5.0, 1.0]),
        np.diag([-2.0, 3.0, 5.0, 1.0]),  # a flipped axis
        TURN @ np.diag([2.0, 3.0, 5.0, 1.0]),
        np.diag([2.0, 3.0, 5.0, 1.0]) + np.array([[0, 0.5, 0, 7], [0] * 4, [0] * 4, [0] * 4]),  # a tilted gantry
    ],
)
def test_millilitres_of_a_voxel(grid: np.ndarray) -> None:
    assert voxel_ml(grid, 3) == pytest.approx(0.03)


def test_there_is_none_without_three_dimensions() -> None:
    assert voxel_ml((2.0, 3.0), 2) is None
    assert voxel_ml(np.diag([2.0, 3.0, 5.0, 1.0]), 2) is None
    assert voxel_ml((2.0, math.inf, 5.0), 3) is None
    assert voxel_ml(np.full((4, 4), np.nan), 3) is None
