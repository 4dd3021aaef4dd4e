"""A least volume of all there is of a target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.core.labels import Labels
from medseg.inference.cleaning.masks import inside, removed
from medseg.inference.cleaning.step import HeldOut, VolumeStep


class MinimumTotal(VolumeStep):
    """Target -> ml: all of it is removed where a case has less, as enhancing tumour in BraTS. Three dimensions only.

    A few voxels of it in a tumour without any cost the whole Dice of the case (Isensee et al. 2018, arXiv 1809.10483).
    """

    WORDS = "{target} from {ml:g} ml in all"

    def __call__(self, mask: np.ndarray, labels: Labels, target: str, voxel_ml: float) -> np.ndarray:
        found = inside(mask, labels.targets[target])
        return removed(mask, labels, target, found) if found.sum() < self.voxels(voxel_ml) else mask

    @classmethod
    def scope(cls, held: HeldOut) -> Sequence[float]:
        """The volume of the target, where the label has none of it."""
        if held.voxel_ml is None or held.true.any() or not held.found.any():
            return []
        return [float(held.found.sum() * held.voxel_ml)]
