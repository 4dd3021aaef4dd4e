"""From a coarse map to a finer one: (bi/tri)linear resize, or a transposed convolution that starts out as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.core.types import Upsampling, chosen
from medseg.networks.blocks.convolution import convolution, transposed_convolution
from medseg.networks.blocks.layers import per_axis, resize


def linear_kernel(size: Sequence[int]) -> Tensor:
    """Weights `(*size)` by which a transposed convolution with a kernel of `2 * stride` (or one less) is linear."""
    kernel = torch.ones(())
    for length in size:
        factor = (length + 1) // 2
        distance = (torch.arange(length) - (length - 1) / 2).abs()
        kernel = kernel[..., None] * (1 - distance / factor)
    return kernel


def linear_transposed(
    spatial_dims: int,
    channels: int,
    stride: int | Sequence[int],
    *,
    kernel_size: int | Sequence[int] | None = None,
    padding: int | Sequence[int] | None = None,
) -> nn.Module:
    """A transposed convolution, channel by channel linear up-sampling to begin with; without bias.

    With the default kernel and padding it turns `size` into `size * stride`, as a resize without aligned corners does.
    """
    stride = per_axis(stride, spatial_dims)
    kernel = tuple(s * 2 - s % 2 for s in stride) if kernel_size is None else per_axis(kernel_size, spatial_dims)
    pad = tuple(s // 2 for s in stride) if padding is None else per_axis(padding, spatial_dims)
    conv = transposed_convolution(spatial_dims)(
        channels, channels, kernel_size=kernel, stride=stride, padding=pad, bias=False
    )
    with torch.no_grad():
        conv.weight.zero_()
        diagonal = range(channels)
        conv.weight[diagonal, diagonal] = linear_kernel(kernel)
    return conv


class Upsample(nn.Module):
    """`(B, in, *spatial)` -> `(B, out, *size)`: transposed convolution, or linear resize and a 1x1 convolution."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, step: Sequence[int], upsample: str
    ) -> None:
        super().__init__()
        chosen(upsample, Upsampling, "upsample")
        self.transposed = upsample == "transposed"
        kernel = tuple(step) if self.transposed else 1
        kind = transposed_convolution(spatial_dims) if self.transposed else convolution(spatial_dims)
        self.conv = kind(in_channels, out_channels, kernel_size=kernel, stride=kernel)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        x = self.conv(x)
        if not self.transposed:
            return resize(x, size)
        # A strided convolution keeps the first voxel of every step, so what is too much lies at the end.
        for axis, length in enumerate(size, start=2):
            if x.shape[axis] != length:
                x = x.narrow(axis, 0, length)
        return x


class ToImage(nn.Module):
    """Logits at a stride `(B, K, *ceil(size / stride))` -> logits `(B, K, *size)`.

    Args:
        upsample: `linear`, or `transposed`: learned, and linear to begin with.
        align_corners: of the linear resize.

    Raises:
        ValueError: an unknown `upsample`.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        stride: Sequence[int],
        *,
        upsample: str = "linear",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        chosen(upsample, Upsampling, "upsample")
        self.align_corners = align_corners
        self.conv = linear_transposed(spatial_dims, channels, stride) if upsample == "transposed" else None

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        if self.conv is None:
            return resize(x, size, self.align_corners)
        return take(self.conv(x), [0] * len(size), size)


def take(x: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """The part of `(B, C, *spatial)` from `start` of that size; zeros where it reaches beyond `x`."""
    pads: list[int] = []
    for first, length, have in zip(start, size, x.shape[2:], strict=True):
        pads = [-first, first + length - have, *pads]  # F.pad counts the axes from the last, and crops below zero
    return F.pad(x, pads) if any(pads) else x
