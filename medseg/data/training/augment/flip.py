"""Mirroring a patch."""

from __future__ import annotations

import numpy as np
from pydantic import validate_call

from medseg.core.types import Axes
from medseg.data.training.augment.base import Spatial, Warp


class Flip(Spatial):
    """Each of some axes mirrored in half of the patches.

    Args:
        flip_axes: Spatial axes that may be mirrored; leave out the left-right axis where sides are different classes.
            In a picture, 0 is up and down, 1 is left and right.
    """

    @validate_call
    def __init__(self, flip_axes: Axes = []) -> None:
        super().__init__(1.0 if flip_axes else 0.0)
        self.axes = flip_axes

    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        mirrored = random.random(3) < 0.5  # of every axis, so that one more changes nothing of the others
        return Warp(flips=tuple(axis for axis in self.axes if mirrored[axis]))
