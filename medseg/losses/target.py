"""What a loss compares logits with: classes, int64 `(B, 1, *spatial)` of channel numbers, or regions, float
`(B, R, *spatial)` of 0 and 1; and which of it is ignored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

IGNORED_CLASS = -100  # in an index target; torch's own convention
IGNORED_REGION = -1.0  # in a region target


def present(target: Tensor, channels: int) -> Tensor:
    """Which channels occur in each sample: target (indices or regions) -> `(B, channels)` of 0 and 1."""
    if target.is_floating_point():
        return (target == 1).flatten(2).any(2).float()
    flat = target.flatten(1)
    return torch.stack([(flat == channel).any(1) for channel in range(channels)], dim=1).float()


def counted(target: Tensor) -> Tensor:
    """Which samples have a voxel that is not ignored: `(B,)` bool."""
    ignored = IGNORED_REGION if target.is_floating_point() else IGNORED_CLASS
    return (target != ignored).flatten(1).any(1)


def shrink(target: Tensor, size: Sequence[int]) -> Tensor:
    """`(B, C, *spatial)` -> `(B, C, *size)`, voxel `floor(i * spatial / size)` for each i.

    That is the voxel under the centre of a strided convolution's output i, where sizes divide.
    """
    for axis, length in enumerate(size, start=2):
        full = target.shape[axis]
        if full == length:
            continue
        if full % length == 0:
            target = target[(slice(None),) * axis + (slice(None, None, full // length),)]
        else:
            index = torch.arange(length, device=target.device) * full // length
            target = target.index_select(axis, index)
    return target


def weight_of(index: Tensor, weights: Tensor | None) -> Tensor:
    """The weight of every pixel: of its class, or 1; 0 where it is ignored."""
    valid = index != IGNORED_CLASS
    return valid.float() if weights is None else weights[index.clamp(min=0)] * valid
