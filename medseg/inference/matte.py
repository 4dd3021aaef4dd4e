"""From a coarse map of probabilities to a soft mask (a matte) at full size, its border on the edges of the picture.

The fast guided filter: He and Sun, arXiv 1505.00996. Inside a window the matte is taken to be linear in the picture's
grey values, `matte = a * grey + b`; a and b are found at the small size, where windows cost little, and enlarged.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ramp(probability: Tensor, low: float = 0.1, high: float = 0.9) -> Tensor:
    """0 up to `low`, 1 from `high`, linear between: what a network is sure of is wholly inside or outside."""
    return ((probability - low) / (high - low)).clamp(0, 1)


def box_mean(maps: Tensor, radius: int) -> Tensor:
    """The mean of `(B, C, H, W)` in windows of `2 * radius + 1`; at the border, of the part that is in the picture."""
    for axis in (2, 3):
        length = maps.shape[axis]
        places = torch.arange(length, device=maps.device)
        first, last = (places - radius).clamp(min=0), (places + radius + 1).clamp(max=length)
        # differences of sums, at the same cost for every radius; in float64, since they are small beside the sums
        sums = F.pad(maps.double().cumsum(axis), (1, 0) if axis == 3 else (0, 0, 1, 0))
        total = sums.index_select(axis, last) - sums.index_select(axis, first)
        maps = (total / (last - first).view(-1, *[1] * (3 - axis))).to(maps.dtype)
    return maps


def guided_matte(matte: Tensor, small: Tensor, grey: Tensor, *, radius: int, smoothness: float = 1e-4) -> Tensor:
    """The matte at the size of the picture, by the fast guided filter. Where it is constant it stays as it is.

    Args:
        matte: `(B, 1, h, w)`, from 0 to 1.
        small: the grey picture at the size of `matte`, `(B, 1, h, w)`, from 0 to 1.
        grey: the grey picture itself, `(B, 1, H, W)`, from 0 to 1.
        radius: of a window, in pixels of `matte`.
        smoothness: epsilon of the paper: where the grey values vary less than this (as a variance), their edges do not
            count and the matte is smoothed.

    Returns:
        `(B, 1, H, W)`, from 0 to 1.
    """
    means = box_mean(torch.cat([small, matte, small * small, small * matte], dim=1), radius)
    mean_small, mean_matte, mean_square, mean_product = means.split(1, dim=1)
    slope = (mean_product - mean_small * mean_matte) / (mean_square - mean_small * mean_small + smoothness)
    lines = box_mean(torch.cat([slope, mean_matte - slope * mean_small], dim=1), radius)
    slope, offset = F.interpolate(lines, grey.shape[2:], mode="bilinear", align_corners=False).split(1, dim=1)
    return (slope * grey + offset).clamp(0, 1)
