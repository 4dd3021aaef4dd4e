"""What the steps share: label maps `(*spatial)`, of exclusive classes or of overlapping regions alike.

Two rules say what a voxel becomes. *Removed* from a target, it becomes background; in a map of regions it stays in the
regions around: an enhancing tumour that is removed becomes what the tumour core is painted with (in BraTS necrosis), a
whole tumour takes its core with it. *Filled* is a voxel only if that takes it from no other target: of exclusive
classes only background.

Parts hang together by faces (4 neighbours in 2D, 6 in 3D), and a hole is background that does not reach the edge of the
image by faces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.core.labels import Labels


def removed(mask: np.ndarray, labels: Labels, target: str, where: np.ndarray) -> np.ndarray:
    """The mask with the target taken from these voxels; the last painted of the regions around it remains."""
    own, left = labels.targets[target], np.zeros_like(mask)
    if labels.regions:
        for region, paint in labels.mask_values.items():
            if paint not in own:
                left[inside(mask, labels.regions[region])] = paint
    return np.where(where, left, mask)


def inside(mask: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Where a mask has one of these values."""
    found = np.zeros(mask.shape, dtype=bool)
    for value in values:
        found |= mask == value
    return found
