"""Where the voxels of each label value are, for patches that are drawn around them."""

from __future__ import annotations

import numpy as np

from medseg.data.training.size import VOXELS_A_VALUE


def listed_voxels(label: np.ndarray) -> tuple[dict[int, tuple[int, int]], np.ndarray]:
    """value -> (voxels, listed voxels), and the flat indices of all values one after the other."""
    flat = label.reshape(-1)
    where = np.flatnonzero(flat)
    values = flat[where]
    counts, listed = {}, []
    for value in np.unique(values).tolist():
        found = where[values == value]
        some = found
        if len(found) > VOXELS_A_VALUE:
            some = found[np.linspace(0, len(found) - 1, VOXELS_A_VALUE).astype(np.int64)]
        counts[value] = (len(found), len(some))
        listed.append(some.astype(np.int32))
    return counts, np.concatenate(listed) if listed else np.zeros(0, np.int32)
