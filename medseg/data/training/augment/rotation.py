"""Turning a patch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import validate_call

from medseg.core.types import Degrees, Fraction
from medseg.data.training.augment.base import Spatial, Warp


class Rotation(Spatial):
    """A turn about each axis (in 2D, in the plane), of the body: anisotropic voxels do not shear it.

    Args:
        rotation_degrees: Largest turn about each axis, either way.
        rotation_probability: Share of the patches that are turned.
    """

    @validate_call
    def __init__(self, rotation_degrees: Degrees = 15.0, rotation_probability: Fraction = 0.3) -> None:
        super().__init__(rotation_probability)
        self.degrees = rotation_degrees

    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        dims = len(spacing)
        planes = ((1, 2), (0, 2), (0, 1)) if dims == 3 else ((0, 1),)
        angles = random.uniform(-1, 1, len(planes)) * np.deg2rad(self.degrees)
        rotation = np.eye(dims)
        for (first, second), angle in zip(planes, angles, strict=True):
            turn = np.eye(dims)
            turn[[first, second], [first, second]] = np.cos(angle)
            turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
            rotation = rotation @ turn
        return Warp(matrix=rotation * spacing / spacing[:, None])  # voxels -> mm, turn, mm -> voxels

    def reach(self, halves: Sequence[float]) -> list[float]:
        angle = np.deg2rad(min(self.degrees, 90))
        cosine, sine = np.cos(angle), np.sin(angle)
        return [
            max(half, *(cosine * half + sine * other for n, other in enumerate(halves) if n != axis))
            for axis, half in enumerate(halves)
        ]
