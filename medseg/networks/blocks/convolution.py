"""Convolution in two and three dimensions, safe on a CPU, and in bfloat16 not slower than in float32.

PyTorch 2.13 (oneDNN) reads and writes beside its memory in the weight gradient of a convolution over a map that has
fewer voxels along an axis than the kernel: in bfloat16 for most kernels, in float32 for a strided one of 7. What comes
out is wrong numbers, NaN or a crash, and no warning. Padded before the convolution, not by it, the map is large enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, except that depthwise kernels that stride or are larger than 3 are trained in float32 on a CPU.

    The gradients of those take PyTorch 2.13 (oneDNN) two to five times as long in bfloat16 as in float32, and were two
    fifths of a training step of EfficientNet-Lite0. Maps smaller than the kernel are padded first.
    """

    def forward(self, x: Tensor) -> Tensor:
        depthwise = self.groups > 1 and self.groups == self.in_channels
        slow = depthwise and (max(self.kernel_size) > 3 or max(self.stride) > 1)
        return in_float32(self._convolve, x) if slow and self.training and autocasts(x) else self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        if not too_small(self, x):
            return super().forward(x)
        return F.conv2d(padded(self, x), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Conv3d(nn.Conv3d):
    """`nn.Conv3d`, except that maps smaller than the kernel are padded first."""

    def forward(self, x: Tensor) -> Tensor:
        if not too_small(self, x):
            return super().forward(x)
        return F.conv3d(padded(self, x), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d`, except that maps of one voxel along an axis are trained in float32 on a CPU.

    PyTorch 2.13's (oneDNN's) bfloat16 gradient of kernels of 4 and more over them is wrong.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        apart = 1 in x.shape[2:] and self.training and autocasts(x)
        return in_float32(super().forward, x) if apart else super().forward(x, output_size)


class ConvTranspose3d(nn.ConvTranspose3d):
    """As `ConvTranspose2d`, in three dimensions."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        apart = 1 in x.shape[2:] and self.training and autocasts(x)
        return in_float32(super().forward, x) if apart else super().forward(x, output_size)


def too_small(convolution: nn.Conv2d | nn.Conv3d, x: Tensor) -> bool:
    """Whether oneDNN's gradient over this map `(B, C, *spatial)` cannot be trusted."""
    smaller = any(n < k for n, k in zip(x.shape[2:], convolution.kernel_size, strict=True))
    return smaller and x.device.type == "cpu" and torch.is_grad_enabled() and convolution.padding_mode == "zeros"


def padded(convolution: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """The map with the zeros around it that the convolution would put there."""
    return F.pad(x, convolution._reversed_padding_repeated_twice)


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


def transposed_convolution(spatial_dims: int) -> Any:
    """The class of a transposed convolution over that many spatial dimensions."""
    return ConvTranspose3d if spatial_dims == 3 else ConvTranspose2d


def safe_on_a_cpu(network: nn.Module) -> None:
    """Make the convolutions of a network that others built ours: nothing but the class changes."""
    for module in network.modules():
        if type(module) in (nn.Conv2d, nn.Conv3d):
            module.__class__ = Conv3d if isinstance(module, nn.Conv3d) else Conv2d
