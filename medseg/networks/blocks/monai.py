"""What MONAI's own networks need around them, for any size of image: each is MONAI's class, with its parameter names.

They need sizes that divide by their strides, so the image is padded at the end of each axis, its last voxels repeated,
and the logits are cropped. UNETR is not among them, since its position embedding fixes the image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from medseg.core.types import Norm, chosen
from medseg.networks.blocks.layers import memory_format, per_axis
from medseg.networks.blocks.upsampling import take
from medseg.networks.levels import halving, per_level

# Our names of norm layers -> MONAI's.
NORMS: dict[Norm, Any] = {
    "instance": ("instance", {"affine": True}),
    "group": ("group", {"num_groups": 8}),
    "batch": "batch",
    "syncbatch": "syncbatch",
    "none": "",
}


def padded(x: Tensor, multiples: Sequence[int], *, several: bool = False) -> Tensor:
    """`(B, C, *spatial)` with each axis padded at its end to a multiple, by repeating the last voxel.

    With `several` the coarsest map has more than one voxel, which instance and batch norm need.
    """
    size = [-(-n // multiple) * multiple for n, multiple in zip(x.shape[2:], multiples, strict=True)]
    if several and size == list(multiples):
        size[-1] *= 2
    pads: list[int] = []
    for have, wanted in zip(x.shape[2:], size, strict=True):
        pads = [0, wanted - have, *pads]  # F.pad counts the axes from the last
    if not any(pads):
        return x
    return F.pad(x, pads, mode="replicate").contiguous(memory_format=memory_format(x))


def cropped(logits: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels of `(B, K, *spatial)`."""
    return take(logits, [0] * len(size), size)


def norm_named(norm: Norm) -> Any:
    """MONAI's name and arguments of our norm layer."""
    return NORMS[chosen(norm, Norm, "norm")]


def level_strides(strides: Sequence[int | Sequence[int]] | None, levels: int, spatial_dims: int) -> list[tuple]:
    """Down-sampling before each level, one number an axis; default 1, then 2 each.

    Raises:
        ValueError: another number of them, or a first one that is not 1.
    """
    if levels < 3:
        raise ValueError(f"needs at least three levels, got {levels} widths")
    given = per_level("strides", halving(levels) if strides is None else strides, levels)
    result = [per_axis(stride, spatial_dims) for stride in given]
    if max(result[0]) > 1:
        raise ValueError(f"the first stride must be 1, got {given[0]}: the logits have the image's size")
    return result


def total_stride(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(prod(axis) for axis in zip(*strides, strict=True))
