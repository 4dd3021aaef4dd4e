"""Bending a patch: an elastic deformation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import validate_call

from medseg.core.types import Deviation, Fraction
from medseg.data.training.augment.base import Spatial, Warp


class Bend(Spatial):
    """Shifts of voxels along each axis by waves along each axis, longer than the patch.

    It is an elastic deformation whose positions are still sums of one short vector an axis, and so costs nothing more
    than a rotation.

    Args:
        bend_voxels: Elastic deformation: standard deviation of the waves along each axis that shift voxels.
        bend_probability: Share of the patches that are bent.
    """

    @validate_call
    def __init__(self, bend_voxels: Deviation = 1.5, bend_probability: Fraction = 0.0) -> None:
        super().__init__(bend_probability)
        self.voxels = bend_voxels

    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        pairs = (len(spacing), len(spacing))
        amplitude, waves = random.normal(0, self.voxels, pairs), random.uniform(0.25, 0.75, pairs)
        return Warp(waves=(np.stack([amplitude, waves, random.random(pairs)]),))

    def reach(self, halves: Sequence[float]) -> list[float]:
        return [half + 2 * self.voxels for half in halves]
