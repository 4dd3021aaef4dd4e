"""Holes are filled."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medseg.core.labels import Labels
from medseg.inference.cleaning.masks import inside
from medseg.inference.cleaning.step import CleaningStep


class FillHoles(CleaningStep):
    """Targets whose enclosed holes are filled, as far as that takes no voxel from another target."""

    WORDS = "holes of {target} filled"

    def __call__(self, mask: np.ndarray, labels: Labels, target: str, voxel_ml: float) -> np.ndarray:
        outside, count = ndimage.label(~inside(mask, labels.targets[target]))
        enclosed = np.ones(count + 1, dtype=bool)
        enclosed[0] = False
        for axis in range(mask.ndim):
            for end in (0, -1):
                enclosed[np.unique(np.take(outside, end, axis))] = False
        if not enclosed.any():
            return mask
        paint = labels.mask_values[target]
        others = [values for values in labels.targets.values() if paint not in values]
        holes = enclosed[outside] & ~inside(mask, [value for values in others for value in values])
        filled = mask.copy()
        filled[holes] = paint
        return filled
