"""The parts that every encoder and decoder is made of: norm, convolution block, stack of blocks, head."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any, Self

import torch
from monai.networks.layers.factories import Dropout
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.core.types import Activation, AnyNorm, chosen
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.instance_norm import instance_norm

LEAKY_SLOPE = 0.01
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "leakyrelu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def per_axis(value: int | Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    """One number an axis: `2` -> `(2, 2, 2)`; a sequence must already have `spatial_dims` numbers."""
    values = (value,) * spatial_dims if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != spatial_dims:
        raise ValueError(f"{list(values)} must have {spatial_dims} numbers, one a spatial axis")
    return values


class InstanceNorm(nn.Module):
    """Instance norm with affine parameters (Ulyanov et al., arXiv 1607.08022), any number of spatial axes.

    Args:
        negative_slope: of a leaky ReLU computed along with it (0: ReLU); None: no activation.
    """

    def __init__(self, channels: int, eps: float = 1e-5, negative_slope: float | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.negative_slope = negative_slope
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm(x, self.weight, self.bias, self.eps, self.negative_slope)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose mean and variance no training changes or measures; scale and shift are learned."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class FrozenBatchNorm3d(nn.BatchNorm3d):
    """As `FrozenBatchNorm2d`."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


def make_norm(norm: str, channels: int, spatial_dims: int) -> nn.Module:
    """The norm layer of that name, one of `AnyNorm`; groups of `group` hold at least channels / 8 channels.

    `group32` has 32 groups, as segmentation-models-pytorch.
    """
    chosen(norm, AnyNorm, "norm")
    if norm == "instance":
        return InstanceNorm(channels)
    if norm == "group":
        return nn.GroupNorm(gcd(8, channels), channels)
    if norm == "group32":
        return nn.GroupNorm(32, channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels) if spatial_dims == 2 else nn.BatchNorm3d(channels)
    if norm == "frozenbatch":
        return (FrozenBatchNorm2d(channels) if spatial_dims == 2 else FrozenBatchNorm3d(channels)).eval()
    if norm == "syncbatch":
        return nn.SyncBatchNorm(channels)
    return nn.Identity()


def make_activation(activation: str) -> nn.Module:
    """The activation of that name."""
    chosen(activation, Activation, "activation")
    if activation == "leakyrelu":
        return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
    return ACTIVATIONS[activation]()


class ConvBlock(nn.Module):
    """Convolution, dropout, norm, activation; `(B, in, *spatial)` -> `(B, out, *ceil(spatial / stride))`."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        norm: str = "instance",
        activation: str | None = "leakyrelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kernel = per_axis(kernel_size, spatial_dims)
        if any(k % 2 == 0 for k in kernel):
            raise ValueError(f"kernel sizes must be odd, got {list(kernel)}")
        self.conv = convolution(spatial_dims)(
            in_channels,
            out_channels,
            kernel_size=kernel,
            stride=per_axis(stride, spatial_dims),
            padding=tuple(k // 2 for k in kernel),
            bias=norm == "none",  # every norm takes a constant out, or adds its own
        )
        self.dropout = Dropout[Dropout.DROPOUT, spatial_dims](dropout) if dropout else None
        self.norm = make_norm(norm, out_channels, spatial_dims)
        self.activation = make_activation(activation) if activation else None
        if isinstance(self.norm, InstanceNorm) and isinstance(self.activation, nn.LeakyReLU | nn.ReLU):
            self.norm.negative_slope = getattr(self.activation, "negative_slope", 0.0)
            self.activation = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.dropout is not None:
            x = self.dropout(x)
        x = self.norm(x)
        return x if self.activation is None else self.activation(x)


class ConvStack(nn.Module):
    """`blocks` convolution blocks of which the first has the stride; `residual` adds a shortcut around them.

    The shortcut is the identity where the shape stays, else a strided 1x1 convolution with norm (He et al., arXiv
    1512.03385, option B); the last activation comes after the sum.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        blocks: int = 2,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        norm: str = "instance",
        activation: str = "leakyrelu",
        dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                ConvBlock(
                    spatial_dims,
                    out_channels if index else in_channels,
                    out_channels,
                    kernel_size=kernel_size,
                    stride=1 if index else stride,
                    norm=norm,
                    activation=None if residual and index == blocks - 1 else activation,
                    dropout=dropout,
                )
                for index in range(blocks)
            )
        )
        self.shortcut: nn.Module | None = None
        self.activation: nn.Module | None = None
        if residual:
            same = in_channels == out_channels and set(per_axis(stride, spatial_dims)) == {1}
            self.shortcut = (
                nn.Identity()
                if same
                else ConvBlock(
                    spatial_dims,
                    in_channels,
                    out_channels,
                    kernel_size=1,
                    stride=stride,
                    norm=norm,
                    activation=None,
                )
            )
            self.activation = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(x)
        if self.shortcut is None or self.activation is None:
            return y
        return self.activation(y + self.shortcut(x))


class Head(nn.Module):
    """1x1 convolution to logits, resized (linearly, by size) where the map is not of the size asked for."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = convolution(spatial_dims)(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        return resize(self.conv(x), x.shape[2:] if size is None else size)


def resize(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """`(B, C, *spatial)` -> `(B, C, *size)`, (bi/tri)linear; nothing to do costs nothing."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[x.ndim - 2]
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=align_corners)


def concatenate(a: Tensor, b: Tensor) -> Tensor:
    """Channels of `a`, then of `b`; on the way back each gets a gradient of its own, contiguous in its memory format.

    PyTorch's own would be a strided view, which every operator that follows reads several times as slowly.
    """
    return torch.cat((a, b), dim=1) if torch.compiler.is_compiling() else _Concatenate.apply(a, b)


class _Concatenate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.channels = a.shape[1]
        return torch.cat((a, b), dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        parts = grad[:, : ctx.channels], grad[:, ctx.channels :]
        return parts[0].clone(memory_format=memory_format(grad)), parts[1].clone(memory_format=memory_format(grad))


def memory_format(x: Tensor) -> torch.memory_format:
    """`channels_last` or `channels_last_3d` where `x` lies so, else `contiguous_format`."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    if x.ndim in layouts and x.is_contiguous(memory_format=layouts[x.ndim]):
        return layouts[x.ndim]
    return torch.contiguous_format


def initialise(module: nn.Module) -> None:
    """He initialisation for leaky ReLU of every convolution (arXiv 1502.01852), biases zero: what nnU-Net does."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
