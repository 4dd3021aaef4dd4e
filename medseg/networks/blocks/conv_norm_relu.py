"""Convolution that keeps a map's size but for its stride, and the three layers that most decoders are made of."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import make_norm, per_axis
from medseg.networks.blocks.relu import relu_after


def padded_conv(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Module:
    """A convolution with an odd kernel that is padded to `ceil(size / stride)` voxels, whatever the dilation."""
    dilation = per_axis(dilation, spatial_dims)
    return convolution(spatial_dims)(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        stride=per_axis(stride, spatial_dims),
        padding=tuple(kernel_size // 2 * d for d in dilation),
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


def conv_norm_relu(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    dilation: int = 1,
    separable: bool = False,
    norm: str = "batch",
) -> nn.Sequential:
    """Convolution (0; separable: depthwise 0.0 and pointwise 0.1), norm (1), ReLU (2); the size stays."""
    bias = norm == "none"
    first: nn.Module
    if separable:
        first = nn.Sequential(
            padded_conv(spatial_dims, in_channels, in_channels, kernel_size, dilation=dilation, groups=in_channels),
            padded_conv(spatial_dims, in_channels, out_channels, 1, bias=bias),
        )
    else:
        first = padded_conv(spatial_dims, in_channels, out_channels, kernel_size, dilation=dilation, bias=bias)
    layer = make_norm(norm, out_channels, spatial_dims)
    return nn.Sequential(first, layer, relu_after(layer))
