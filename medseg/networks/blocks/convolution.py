"""Convolution for two and three dimensions, in bfloat16 on a CPU safe, and not slower than in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, except that depthwise kernels that stride or are larger than 3 are trained in float32 on a CPU.

    The gradients of those take PyTorch 2.13 (oneDNN) two to five times as long in bfloat16 as in float32, and were two
    fifths of a training step of EfficientNet-Lite0.
    """

    def forward(self, x: Tensor) -> Tensor:
        depthwise = self.groups > 1 and self.groups == self.in_channels
        slow = depthwise and (max(self.kernel_size) > 3 or max(self.stride) > 1)
        return in_float32(super().forward, x) if slow and self.training and autocasts(x) else super().forward(x)


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, except that maps smaller than the kernel are trained in float32 on a CPU.

    PyTorch 2.13 (oneDNN) writes beside its memory in the weight gradient of a bfloat16 convolution over an axis of more
    than one voxel but fewer than the kernel: wrong numbers, NaN or a crash, and no warning. Such maps are tiny, so
    float32 costs nothing there.
    """

    def forward(self, x: Tensor) -> Tensor:
        small = any(1 < n < k for n, k in zip(x.shape[2:], self.kernel_size, strict=True))
        return in_float32(super().forward, x) if small and self.training and autocasts(x) else super().forward(x)


def autocasts(x: Tensor) -> bool:
    """Whether x is on a CPU where autocast would convolve it in another type than float32."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def in_float32(convolve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Computed in float32; the result has autocast's type all the same."""
    with torch.autocast("cpu", enabled=False):
        return convolve(x.float()).to(torch.get_autocast_dtype("cpu"))


def convolution(spatial_dims: int) -> Any:
    """The class of a convolution over that many spatial dimensions."""
    return Conv3d if spatial_dims == 3 else Conv2d


def safe_in_bfloat16(network: nn.Module) -> None:
    """Make the 3D convolutions of a network that others built ours: nothing but the class changes."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Conv3d
