"""Convolution for two and three dimensions, safe in bfloat16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, except that maps smaller than the kernel are trained in float32 on a CPU.

    PyTorch 2.13 (oneDNN) writes beside its memory in the weight gradient of a bfloat16 convolution over an axis of more
    than one voxel but fewer than the kernel: wrong numbers, NaN or a crash, and no warning. Such maps are tiny, so
    float32 costs nothing there.
    """

    def forward(self, x: Tensor) -> Tensor:
        small = any(1 < n < k for n, k in zip(x.shape[2:], self.kernel_size, strict=True))
        if small and self.training and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))
        return super().forward(x)


def convolution(spatial_dims: int) -> Any:
    """The class of a convolution over that many spatial dimensions."""
    return Conv3d if spatial_dims == 3 else nn.Conv2d


def safe_in_bfloat16(network: nn.Module) -> None:
    """Make the 3D convolutions of a network that others built ours: nothing but the class changes."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Conv3d
