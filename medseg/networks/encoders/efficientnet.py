"""EfficientNet-Lite0 (Tan & Le, arXiv 1905.11946; "lite": no squeeze-excitation, ReLU6), published layout.

Parameter names are those of the public PyTorch port without their leading underscores.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.core.types import EncoderNorm, OutputStride, Positive, Steps, chosen
from medseg.networks.blocks.checkpointing import checkpointed
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import make_norm, per_axis
from medseg.networks.encoders.base import Encoder

# repeats, kernel, whether the stage down-samples, expansion, channels
STAGES = (
    (1, 3, False, 1, 16),
    (2, 3, True, 6, 24),
    (2, 5, True, 6, 40),
    (3, 3, True, 6, 80),
    (3, 5, False, 6, 112),
    (4, 5, True, 6, 192),
    (1, 3, False, 6, 320),
)
STEM = 32


def same_conv(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> nn.Module:
    """A convolution for `apply_same`: padded along the axes without stride, where both sides are alike."""
    padding = tuple((kernel_size - 1) * d // 2 if s == 1 else 0 for s, d in zip(stride, dilation, strict=True))
    return convolution(spatial_dims)(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        stride=tuple(stride),
        padding=padding,
        dilation=tuple(dilation),
        groups=groups,
        bias=False,
    )


def apply_same(conv: Any, x: Tensor) -> Tensor:
    """TensorFlow's "same" padding: `ceil(size / stride)` voxels, the odd voxel of padding at the end."""
    pads: list[int] = []
    for axis, (kernel, step, dilation) in enumerate(zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)):
        size = x.shape[2 + axis]
        total = 0 if step == 1 else max(((size - 1) // step) * step + (kernel - 1) * dilation + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]  # F.pad counts the axes from the last
    return conv(F.pad(x, pads) if any(pads) else x)


def make_relu6(norm: str) -> nn.Module:
    """ReLU6 to put behind a norm layer; instance norm keeps its result for the backward pass, so not in place there."""
    return nn.ReLU6(inplace=norm != "instance")


def make_lite_norm(norm: str, channels: int, spatial_dims: int) -> nn.Module:
    """The norm layer of that name; batch norm with the published epsilon and momentum."""
    layer: Any = make_norm(norm, channels, spatial_dims)
    if norm in ("batch", "syncbatch", "frozenbatch"):
        layer.eps, layer.momentum = 1e-3, 0.01
    return layer


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; a shortcut where the shape stays (arXiv 1801.04381)."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        stride: Sequence[int],
        dilation: Sequence[int],
        expansion: int,
        norm: str,
        shortcut: bool,
    ) -> None:
        super().__init__()
        ones = (1,) * spatial_dims
        wide = in_channels * expansion
        self.expand_conv: nn.Module | None = None
        if expansion != 1:
            self.expand_conv = same_conv(spatial_dims, in_channels, wide, 1, ones, ones)
            self.bn0 = make_lite_norm(norm, wide, spatial_dims)
        self.depthwise_conv = same_conv(spatial_dims, wide, wide, kernel_size, stride, dilation, groups=wide)
        self.bn1 = make_lite_norm(norm, wide, spatial_dims)
        self.project_conv = same_conv(spatial_dims, wide, out_channels, 1, ones, ones)
        self.bn2 = make_lite_norm(norm, out_channels, spatial_dims)
        self.relu = make_relu6(norm)
        self.shortcut = shortcut and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expand_conv is not None:
            y = self.relu(self.bn0(self.expand_conv(y)))
        y = self.relu(self.bn1(apply_same(self.depthwise_conv, y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite0Encoder(Encoder):
    """`(B, in_channels, *spatial)` -> features of 16, 24, 40, 112, 320 channels at strides 2, 4, 8, 16, 32.

    Args:
        output_stride: the largest stride; later stages dilate instead, their first convolution not yet.
        strides: steps of the stem and of the four stages that down-sample, one number or one an axis.
        norm: of every layer; the published one is `batch`.

    Raises:
        ValueError: another number of strides.
    """

    kind = "efficientnet"

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        output_stride: OutputStride = 32,
        strides: Steps = (2, 2, 2, 2, 2),
        width: Positive = 1.0,
        norm: EncoderNorm = "batch",
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        chosen(output_stride, OutputStride, "output_stride")
        if len(strides) != 5:
            raise ValueError(f"EfficientNet-Lite0 needs 5 strides (stem and four stages), got {list(strides)}")
        pending = [per_axis(stride, spatial_dims) for stride in strides]
        ones = (1,) * spatial_dims
        step = total = pending.pop(0)
        channels = _scaled(STEM, width)
        self.conv_stem = same_conv(spatial_dims, in_channels, channels, 3, step, ones)
        self.bn0 = make_lite_norm(norm, channels, spatial_dims)
        self.relu = make_relu6(norm)
        self.blocks = nn.ModuleList()
        dilation = ones
        levels = []  # of each resolution: its last block, channels, stride, step
        for repeats, kernel, down, expansion, base in STAGES:
            before = dilation
            stride = ones
            if down:
                levels.append((len(self.blocks) - 1, channels, total, step))
                step = pending.pop(0)
                fits = [t * s <= output_stride for t, s in zip(total, step, strict=True)]
                dilation = tuple(d if ok else d * s for d, s, ok in zip(dilation, step, fits, strict=True))
                step = stride = tuple(s if ok else 1 for s, ok in zip(step, fits, strict=True))
                total = tuple(t * s for t, s in zip(total, step, strict=True))
            for index in range(repeats):
                self.blocks.append(
                    InvertedResidual(
                        spatial_dims,
                        channels,
                        _scaled(base, width),
                        kernel_size=kernel,
                        stride=ones if index else stride,
                        dilation=dilation if index else before,
                        expansion=expansion,
                        norm=norm,
                        shortcut=index > 0,
                    )
                )
                channels = _scaled(base, width)
        levels.append((len(self.blocks) - 1, channels, total, step))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):  # He, fan out; a depthwise kernel fans out to itself only
                fan_out = module.out_channels * prod(module.kernel_size) // module.groups
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        self.ends = tuple(level[0] for level in levels)
        self.channels = tuple(level[1] for level in levels)
        self.strides = tuple(level[2] for level in levels)
        self.steps = tuple(level[3] for level in levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.relu(self.bn0(apply_same(self.conv_stem, x)))
        features = []
        for index, block in enumerate(self.blocks):
            x = checkpointed(block, x) if self.checkpoint and torch.is_grad_enabled() else block(x)
            if index in self.ends:
                features.append(x)
        return features


def _scaled(channels: int, width: float) -> int:
    return max(8, round(channels * width / 8) * 8)
