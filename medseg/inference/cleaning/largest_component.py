"""The largest component alone."""

from __future__ import annotations

import numpy as np

from medseg.core.fast import components
from medseg.core.labels import Labels
from medseg.inference.cleaning.masks import inside, removed
from medseg.inference.cleaning.step import CleaningStep


class LargestComponent(CleaningStep):
    """Targets of which only the largest connected component is kept (the first of equals)."""

    WORDS = "largest component of {target}"

    def __call__(self, mask: np.ndarray, labels: Labels, target: str, voxel_ml: float) -> np.ndarray:
        parts, count = components(inside(mask, labels.targets[target]))
        if count < 2:
            return mask
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        return removed(mask, labels, target, (parts != 0) & (parts != sizes.argmax()))
