"""Fully convolutional networks (Long et al., arXiv 1411.4038) on VGG-16 or AlexNet, and the FCN head on any encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from medseg.core.types import Count, FCNPadding, Norm, OutputStride, Share, Upsampling, chosen
from medseg.networks.base import EncoderNetwork, encoder_kind
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.heads import FCNHead
from medseg.networks.blocks.layers import make_norm, resize
from medseg.networks.blocks.relu import relu_after
from medseg.networks.blocks.upsampling import ToImage, linear_transposed, take
from medseg.networks.encoders import encoder_part
from medseg.networks.encoders.chain import after

# What makes the first map larger than the image, so that the map after an unpadded `fc6` is still as large.
PUBLISHED_PADDING: dict[str, dict[str, int]] = {"vgg": {"padding": 100}, "alexnet": {"padding": 100, "pool_padding": 0}}


class FCN(EncoderNetwork):
    """Any encoder with torchvision's FCN head on its last feature."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet50",
        auxiliary: bool = False,
        norm: Norm = "batch",
        output_stride: OutputStride | None = 8,
        dropout: Share = 0.1,
        upsample: Upsampling = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm, output_stride=output_stride)
        self.head = FCNHead(spatial_dims, self.encoder.channels[-1], out_channels, norm=norm, dropout=dropout)
        self.upsample = ToImage(spatial_dims, out_channels, self.encoder.strides[-1], upsample=upsample)
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.upsample(self.head(features[-1]), x.shape[2:])


class FCN32s(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    VGG-16 with its classifier as convolutions (`fc6`, `fc7`); every map is cropped to where it lies on the image, by
    the offsets that follow from the layers (VGG-16: 19, with skips 5 + 27 and 5 + 9 + 31, as in the authors' code).

    Args:
        encoder: one that has a classifier: `vgg16`, `vgg16_bn` or `alexnet`.
        norm: of encoder and classifier; null is the encoder's own.
        padding: `published` pads the image by 100 voxels a side, without padding in `fc6`; `same` pads all layers by
            half their kernels. null: published in 2D, same in 3D, where 100 voxels around a volume are unaffordable.
        fc_channels: channels of `fc6` and `fc7` (in 3D 4096 are 719 million parameters for VGG-16).
        dropout: behind `fc6` and `fc7`.
        at_once: scale the skips by 0.01 and 0.0001, as the authors do when they train from the start with them.

    Raises:
        ValueError: an encoder of which it is not known where its features lie, or an unknown padding.
    """

    skips = 0

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "vgg16",
        auxiliary: bool = False,
        norm: Norm | None = None,
        padding: FCNPadding | None = None,
        fc_channels: Count = 4096,
        dropout: Share = 0.5,
        at_once: bool = False,
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        kernel = getattr(encoder_part(encoder).load(), "classifier_kernel", None)
        if kernel is None:
            raise ValueError(f"encoder must be vgg16, vgg16_bn or alexnet, got {encoder!r}; network fcn takes any")
        if padding is None:
            padding = "published" if spatial_dims == 2 else "same"
        chosen(padding, FCNPadding, "padding")
        wide = PUBLISHED_PADDING.get(encoder_kind(encoder), {"padding": 100}) if padding == "published" else {}
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm, **wide)
        layers: str = self.encoder.classifier_norm if norm is None else norm
        channels, strides = self.encoder.channels, self.encoder.strides

        conv = convolution(spatial_dims)
        fc6 = conv(channels[-1], fc_channels, kernel_size=kernel, padding=kernel // 2 if padding == "same" else 0)
        fc7 = conv(fc_channels, fc_channels, kernel_size=1)
        stride, offset = after(strides[-1], self.encoder.offsets[-1], fc6)
        norms = [make_norm(layers, fc_channels, spatial_dims) for _ in range(2)]
        self.classifier = nn.Sequential(
            fc6, norms[0], relu_after(norms[0]), nn.Dropout(dropout), fc7, norms[1], relu_after(norms[1])
        )
        self.dropout = nn.Dropout(dropout)
        for layer in (fc6, fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

        # Scores of the deepest map and of the skips; before each skip, and at last, the sum so far is up-sampled.
        self.scores = nn.ModuleList([conv(fc_channels, out_channels, kernel_size=1)])
        self.upsamples = nn.ModuleList()
        self.starts: list[tuple[int, ...]] = []
        self.scales = (0.01, 0.0001) if at_once else (1.0, 1.0)
        for level in range(self.skips + 1):
            finer, goal = ((1,) * spatial_dims, (0.0,) * spatial_dims)
            if level < self.skips:
                index = len(channels) - 2 - level
                finer, goal = strides[index], self.encoder.offsets[index]
                self.scores.append(conv(channels[index], out_channels, kernel_size=1))
            step = tuple(a // b for a, b in zip(stride, finer, strict=True))
            kernels, start = _aligned(step, finer, offset, goal)
            self.upsamples.append(linear_transposed(spatial_dims, out_channels, step, kernel_size=kernels, padding=0))
            self.starts.append(start)
            stride, offset = finer, tuple(g - f * s for g, f, s in zip(goal, finer, start, strict=True))
        for score in self.scores:  # published: zeros, with pretrained layers below; here they shall learn at once
            nn.init.normal_(score.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, layers)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        y = self.scores[0](self.dropout(self.classifier(features[-1])))
        for level, upsample in enumerate(self.upsamples):
            y = upsample(y)
            if level < self.skips:
                skip = self.scores[level + 1](features[-2 - level] * self.scales[level])
                y = y + take(skip, [-s for s in self.starts[level]], y.shape[2:])
        return take(y, self.starts[-1], x.shape[2:])

    def auxiliary_logits(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        assert self.auxiliary is not None
        size = x.shape[2:]
        stride, offset = self.encoder.strides[-2], self.encoder.offsets[-2]
        start = [round(-o / s) for o, s in zip(offset, stride, strict=True)]
        length = [-(-n // s) for n, s in zip(size, stride, strict=True)]
        return resize(take(self.auxiliary(features[-2]), start, length), size)


class FCN16s(FCN32s):
    """FCN-32s with a skip from the feature of stride 16."""

    skips = 1


class FCN8s(FCN32s):
    """FCN-32s with skips from the features of strides 16 and 8."""

    skips = 2


def _aligned(
    step: Sequence[int], finer: Sequence[int], offset: Sequence[float], goal: Sequence[float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernel of a linear transposed convolution of that step, and where its output's grid holds the goal's first voxel.

    `finer` is the stride of both grids, `offset` that of the convolution's input. An axis takes the kernel, `2 * step`
    or one less, for which the two grids coincide.
    """
    kernels, starts = [], []
    for s, f, o, g in zip(step, finer, offset, goal, strict=True):
        for kernel in (2 * s, 2 * s - 1):
            start = (g - o) / f + (kernel - 1) / 2
            if start == int(start):
                break
        kernels.append(kernel)
        starts.append(round(start))
    return tuple(kernels), tuple(starts)
