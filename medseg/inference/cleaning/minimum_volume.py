"""A least volume of every component."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.core.fast import components
from medseg.core.labels import Labels
from medseg.inference.cleaning.masks import inside, removed
from medseg.inference.cleaning.step import HeldOut, VolumeStep


class MinimumVolume(VolumeStep):
    """Target -> ml: its connected components that are smaller are removed. Three dimensions only."""

    WORDS = "components of {target} from {ml:g} ml"

    def __call__(self, mask: np.ndarray, labels: Labels, target: str, voxel_ml: float) -> np.ndarray:
        parts, count = components(inside(mask, labels.targets[target]))
        small = np.bincount(parts.ravel()) < self.voxels(voxel_ml)
        small[0] = False
        return removed(mask, labels, target, small[parts]) if count and small.any() else mask

    @classmethod
    def scope(cls, held: HeldOut) -> Sequence[float]:
        """The volume of each component that touches nothing of the truth."""
        return [] if held.voxel_ml is None else [voxels * held.voxel_ml for voxels in held.invented]
