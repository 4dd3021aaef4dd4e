"""Convolution for two and three dimensions, safe in bfloat16 on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, except that maps of depth 2 are trained in float32 on a CPU.

    PyTorch 2.13 (oneDNN) computes a wrong weight gradient, or NaN, for a bfloat16 convolution of stride 1 whose first
    spatial axis has two voxels; nothing warns of it. Such maps are tiny, so float32 costs nothing there.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type == "cpu" and x.shape[2] == 2 and torch.is_autocast_enabled("cpu"):
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
