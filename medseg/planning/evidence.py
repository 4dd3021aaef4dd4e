"""Which mirror images are possible, as the voxels say.

Measured case by case on arrays in the order of the file (`thumbnail`), and read over all cases by pure rules
(`mirror_likeness`, `unlike_its_mirror`). How thick slices are: `data.cases.coarseness`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from medseg.data.cases.coarseness import SCALE, finite

GRID = 16  # side of a thumbnail
# Calibrated: top-down in ultrasound (BUSI) -0.07, in driving scenes (CamVid) 0.07; left-right in both at least 0.96; of
# brains left-right 0.99, front-back 0.92 (LGG) and 0.70 (BraTS), up-down 0.87; of left hippocampi 0.41 to 0.56.
ALIKE_ENOUGH = 0.5


def thumbnail(image: np.ndarray) -> np.ndarray:
    """An image (C, *spatial) as a small one, `GRID` a side, without colours: its median is 0, its range about 1."""
    steps = (slice(None, None, max(1, size // (4 * GRID))) for size in image.shape[1:])
    values = torch.from_numpy(finite(image[(slice(None), *steps)]))
    pool = functional.adaptive_avg_pool3d if image.ndim == 4 else functional.adaptive_avg_pool2d
    small = pool(values[None], GRID)[0].numpy()
    scaled = []
    for channel in small:
        low, middle, high = np.percentile(channel, (SCALE[0], 50.0, SCALE[1]))
        scaled.append(np.clip((channel - middle) / (high - low), -1, 1) if high > low else np.zeros_like(channel))
    return np.mean(scaled, axis=0)


def mirror_likeness(thumbnails: np.ndarray) -> tuple[float, ...]:
    """Of each axis: how much what images have in common is like its mirror image, from 1 (quite) down to -1 (opposite).

    1 minus twice the share of an average image's variation that is odd along the axis in the same way in all images: by
    the products of different images' odd parts, in which what is the case's own averages out. So images that have
    nothing in common have 1, and a few images do not look one-sided by chance.

    Args:
        thumbnails: (cases, *grid); one alone has nothing in common with others, so 1.
    """
    count, axes = len(thumbnails), range(1, thumbnails.ndim)
    centred = thumbnails - thumbnails.mean(axis=tuple(axes), keepdims=True)
    variation = float((centred**2).sum()) / count
    if count < 2 or variation == 0:
        return (1.0,) * len(axes)
    found = []
    for axis in axes:
        odd = (centred - np.flip(centred, axis)) / 2
        common = float((odd.sum(0) ** 2).sum() - (odd**2).sum()) / (count * (count - 1))
        found.append(round(float(np.clip(1 - 2 * common / variation, -1, 1)), 4))
    return tuple(found)


def unlike_its_mirror(likeness: Sequence[float]) -> list[int]:
    """Axes along which a mirror image would be an impossible one, as ultrasound or a street upside down."""
    return [axis for axis, value in enumerate(likeness) if value < ALIKE_ENOUGH]
