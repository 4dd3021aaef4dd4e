"""ResNet-18/34/50/101 (He et al., arXiv 1512.03385) for dense prediction: where asked, strides become dilation.

Parameter names are torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, ...; a deep stem has `conv1.0`, `conv1.1`, ...).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from medseg.core.types import Counts, EncoderNorm, OutputStride, Positive, ResNetBlock, ResNetStem, Steps, chosen
from medseg.networks.blocks.checkpointing import checkpointed
from medseg.networks.blocks.conv_norm_relu import padded_conv
from medseg.networks.blocks.layers import make_norm, per_axis
from medseg.networks.blocks.relu import add_to, relu_after
from medseg.networks.encoders.base import Encoder, scaled

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the second one sees the grid after the stride (or what stands for it)."""

    expansion = 1

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        width: int,
        *,
        stride: Sequence[int],
        first_dilation: Sequence[int],
        dilation: Sequence[int],
        norm: str,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = padded_conv(spatial_dims, in_channels, width, 3, stride=stride, dilation=first_dilation, bias=bias)
        self.bn1 = make_norm(norm, width, spatial_dims)
        self.conv2 = padded_conv(spatial_dims, width, width, 3, dilation=dilation, bias=bias)
        self.bn2 = make_norm(norm, width, spatial_dims)
        self.relu1 = relu_after(self.bn1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(add_to(self.bn2, y, x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, and a shortcut (torchvision's, "ResNet v1.5")."""

    expansion = 4

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        width: int,
        *,
        stride: Sequence[int],
        first_dilation: Sequence[int],
        dilation: Sequence[int],
        norm: str,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        bias = norm == "none"
        out_channels = width * self.expansion
        self.conv1 = padded_conv(spatial_dims, in_channels, width, 1, bias=bias)
        self.bn1 = make_norm(norm, width, spatial_dims)
        self.conv2 = padded_conv(spatial_dims, width, width, 3, stride=stride, dilation=first_dilation, bias=bias)
        self.bn2 = make_norm(norm, width, spatial_dims)
        self.conv3 = padded_conv(spatial_dims, width, out_channels, 1, bias=bias)
        self.bn3 = make_norm(norm, out_channels, spatial_dims)
        self.relu1 = relu_after(self.bn1)
        self.relu2 = relu_after(self.bn2)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(add_to(self.bn3, y, x if self.downsample is None else self.downsample(x)))


BLOCKS: Mapping[ResNetBlock, type[BasicBlock] | type[Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNetEncoder(Encoder):
    """`(B, in_channels, *spatial)` -> features of the stem and the four stages, strides 2, 4, 8, 16, 32.

    Args:
        block: what the stages are made of, `basic` or `bottleneck`.
        depths: blocks of each stage.
        stem: `7x7`, `deep` (three 3x3 of 32-32-64 channels: ResNet-C, arXiv 1812.01187) or `deep_wide` (64-64-128).
        dilate_first_block: whether the convolution that lost its stride is dilated too. False (torchvision, mmseg): it
            still sees the grid before it, so every n-th voxel of a feature is what the strided network gives. True:
            segmentation_models.pytorch, PSPNet's and DeepLab v2's code.
        multi_grid: factors on the dilation of the last stage's blocks (arXiv 1706.05587 uses 1, 2, 4).
        strides: steps of the stem, of its pooling and of stages 2-4, one number or one an axis.
        norm: of every layer; the published one is `batch`.

    Raises:
        ValueError: an unknown block or stem, another number of strides or grid factors, a stem beyond `output_stride`.
    """

    kind = "resnet"

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        block: ResNetBlock = "bottleneck",
        depths: Counts = (3, 4, 6, 3),
        stem: ResNetStem = "7x7",
        output_stride: OutputStride = 32,
        dilate_first_block: bool = False,
        multi_grid: Counts | None = None,
        strides: Steps = (2, 2, 2, 2, 2),
        width: Positive = 1.0,
        norm: EncoderNorm = "batch",
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        chosen(stem, ResNetStem, "stem")
        chosen(output_stride, OutputStride, "output_stride")
        if len(strides) != 5:
            raise ValueError(f"ResNet needs 5 strides (stem, its pooling, three stages), got {list(strides)}")
        grid = (1,) * depths[-1] if multi_grid is None else tuple(multi_grid)
        if len(grid) != depths[-1]:
            raise ValueError(f"multi_grid needs {depths[-1]} factors, one a block of the last stage, got {list(grid)}")
        self.checkpoint = checkpoint
        kind = BLOCKS[chosen(block, ResNetBlock, "block")]
        steps = [per_axis(stride, spatial_dims) for stride in strides]
        ones = (1,) * spatial_dims
        total = tuple(a * b for a, b in zip(steps[0], steps[1], strict=True))
        if max(total) > output_stride:
            raise ValueError(f"the stem alone down-samples by {list(total)}, more than output_stride {output_stride}")

        widths = [scaled(w, width) for w in WIDTHS]
        channels = 2 * widths[0] if stem == "deep_wide" else widths[0]
        self.conv1 = _stem(spatial_dims, in_channels, channels, steps[0], norm, deep=stem != "7x7")
        self.bn1 = make_norm(norm, channels, spatial_dims)
        self.relu = relu_after(self.bn1)
        kernel = tuple(3 if step > 1 else 1 for step in steps[1])
        self.maxpool = Pool[Pool.MAX, spatial_dims](kernel, stride=steps[1], padding=tuple(k // 2 for k in kernel))

        features = [(channels, steps[0], steps[0]), (widths[0] * kind.expansion, total, steps[1])]
        stages: list[nn.Sequential] = []
        dilation = ones
        for level, (depth, planes) in enumerate(zip(depths, widths, strict=True)):
            before, step = dilation, ones
            if level:
                wanted = steps[level + 1]
                fits = [t * s <= output_stride for t, s in zip(total, wanted, strict=True)]
                step = tuple(s if ok else 1 for s, ok in zip(wanted, fits, strict=True))
                dilation = tuple(d if ok else d * s for d, s, ok in zip(dilation, wanted, fits, strict=True))
                total = tuple(t * s for t, s in zip(total, step, strict=True))
                features.append((planes * kind.expansion, total, step))
            blocks = []
            for index in range(depth):
                factor = grid[index] if level == 3 else 1
                first = before if index == 0 and not dilate_first_block else dilation
                out_channels = planes * kind.expansion
                stride = ones if index else step
                shortcut = None
                if channels != out_channels or max(stride) > 1:
                    shortcut = nn.Sequential(
                        padded_conv(spatial_dims, channels, out_channels, 1, stride=stride, bias=norm == "none"),
                        make_norm(norm, out_channels, spatial_dims),
                    )
                blocks.append(
                    kind(
                        spatial_dims,
                        channels,
                        planes,
                        stride=stride,
                        first_dilation=tuple(d * factor for d in first),
                        dilation=tuple(d * factor for d in dilation),
                        norm=norm,
                        downsample=shortcut,
                    )
                )
                channels = out_channels
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels, self.strides, self.steps = (tuple(column) for column in zip(*features, strict=True))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(x)))
        features = [x]
        x = self.maxpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = checkpointed(block, x) if self.checkpoint and torch.is_grad_enabled() else block(x)
            features.append(x)
        return features


def _stem(
    spatial_dims: int, in_channels: int, channels: int, stride: Sequence[int], norm: str, *, deep: bool
) -> nn.Module:
    bias = norm == "none"
    if not deep:
        return padded_conv(spatial_dims, in_channels, channels, 7, stride=stride, bias=bias)
    half = channels // 2
    first, second = (make_norm(norm, half, spatial_dims) for _ in range(2))
    return nn.Sequential(
        padded_conv(spatial_dims, in_channels, half, 3, stride=stride, bias=bias),
        first,
        relu_after(first),
        padded_conv(spatial_dims, half, half, 3, bias=bias),
        second,
        relu_after(second),
        padded_conv(spatial_dims, half, channels, 3, bias=bias),
    )
