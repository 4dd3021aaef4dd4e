"""Holes are filled."""

from __future__ import annotations

import numpy as np

from medseg.core.fast import filled
from medseg.core.labels import Labels
from medseg.inference.cleaning.masks import inside
from medseg.inference.cleaning.step import CleaningStep


class FillHoles(CleaningStep):
    """Targets whose enclosed holes are filled, as far as that takes no voxel from another target."""

    WORDS = "holes of {target} filled"

    def __call__(self, mask: np.ndarray, labels: Labels, target: str, voxel_ml: float) -> np.ndarray:
        found = inside(mask, labels.targets[target])
        enclosed = filled(found) & ~found
        if not enclosed.any():
            return mask
        paint = labels.mask_values[target]
        others = [values for values in labels.targets.values() if paint not in values]
        holes = enclosed & ~inside(mask, [value for values in others for value in values])
        painted = mask.copy()
        painted[holes] = paint
        return painted
