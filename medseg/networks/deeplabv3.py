"""DeepLab v3 (Chen et al., arXiv 1706.05587) and v3+ (arXiv 1802.02611): ASPP, then a decoder with a finer feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.networks.blocks.aspp import ASPP, conv_norm_relu
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import resize
from medseg.networks.blocks.upsampling import ToImage
from medseg.networks.encoders import build_encoder
from medseg.networks.fcn import FCNHead


def rates_at(stride: Sequence[int]) -> tuple[int, ...]:
    """Published dilation rates of ASPP: 6, 12, 18 at a stride of 16, twice as much at 8, half at 32."""
    return tuple(max(rate * 16 // max(stride), 1) for rate in (6, 12, 18))


class DeepLabV3(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image: torchvision's.

    Args:
        auxiliary: in training mode return `[logits, logits of an FCN head on the feature before the last]`.
        output_stride: of the encoder; None leaves it to one that cannot dilate.
        multi_grid: factors on the dilation of the encoder's last stage (published: 1, 2, 4; torchvision: none).
        rates: dilation of ASPP's three convolutions; default `rates_at` the encoder's stride.
        width: channels of ASPP and of the convolution behind it.
        align_corners: of the last resize (segmentation-models-pytorch does).
        upsample: `linear`, or `transposed`: learned, and linear to begin with.
        encoder_options: further arguments of the encoder, as `width`, `stem` or `dilate_first_block`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet50",
        auxiliary: bool = False,
        norm: str = "batch",
        output_stride: int | None = 8,
        multi_grid: Sequence[int] | None = None,
        rates: Sequence[int] | None = None,
        width: int = 256,
        dropout: float = 0.5,
        align_corners: bool = False,
        upsample: str = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options = {"norm": norm, "output_stride": output_stride, "multi_grid": multi_grid, **(encoder_options or {})}
        self.encoder = build_encoder(encoder, spatial_dims, in_channels, **options)
        channels, stride = self.encoder.channels, self.encoder.strides[-1]
        rates = rates_at(stride) if rates is None else rates
        self.head = nn.Sequential(
            ASPP(spatial_dims, channels[-1], width, rates, norm=norm, dropout=dropout),
            *conv_norm_relu(spatial_dims, width, width, 3, norm=norm),
            convolution(spatial_dims)(width, out_channels, kernel_size=1),
        )
        self.upsample = ToImage(spatial_dims, out_channels, stride, upsample=upsample, align_corners=align_corners)
        self.auxiliary = FCNHead(spatial_dims, channels[-2], out_channels, norm=norm) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        features = self.encoder(x)
        logits = self.upsample(self.head(features[-1]), size)
        if not self.training or self.auxiliary is None:
            return logits
        return [logits, resize(self.auxiliary(features[-2]), size)]


class DeepLabV3Plus(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    ASPP's map is resized to the encoder's feature of stride 4, joined by 48 channels of that, and refined by one 3x3
    convolution.

    Args:
        auxiliary: in training mode return `[logits, logits of an FCN head on the feature before the last]`.
        output_stride: of the encoder; None leaves it to one that cannot dilate.
        multi_grid: factors on the dilation of the encoder's last stage.
        rates: dilation of ASPP's three convolutions; default `rates_at` the encoder's stride.
        width: channels of ASPP and of the decoder.
        low_level_width: channels that the finer feature is reduced to.
        separable: depthwise separable convolutions in ASPP and decoder, and one more behind ASPP: with `align_corners`,
            `dilate_first_block` and rates of 12, 24, 36 the form of segmentation-models-pytorch.
        align_corners: of the resizes.
        upsample: `linear`, or `transposed`: learned, and linear to begin with.
        encoder_options: further arguments of the encoder, as `width`, `stem` or `dilate_first_block`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet50",
        auxiliary: bool = False,
        norm: str = "batch",
        output_stride: int | None = 16,
        multi_grid: Sequence[int] | None = None,
        rates: Sequence[int] | None = None,
        width: int = 256,
        low_level_width: int = 48,
        separable: bool = False,
        dropout: float = 0.1,
        align_corners: bool = False,
        upsample: str = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options = {"norm": norm, "output_stride": output_stride, "multi_grid": multi_grid, **(encoder_options or {})}
        self.encoder = build_encoder(encoder, spatial_dims, in_channels, **options)
        channels, strides = self.encoder.channels, self.encoder.strides
        rates = rates_at(strides[-1]) if rates is None else rates
        self.level = _level_of_stride(strides, 4)
        self.align_corners = align_corners
        self.aspp = nn.Sequential(
            ASPP(spatial_dims, channels[-1], width, rates, separable=separable, norm=norm, dropout=dropout)
        )
        if separable:
            self.aspp.append(conv_norm_relu(spatial_dims, width, width, 3, separable=True, norm=norm))
        self.low_level = conv_norm_relu(spatial_dims, channels[self.level], low_level_width, 1, norm=norm)
        self.refine = conv_norm_relu(spatial_dims, width + low_level_width, width, 3, separable=separable, norm=norm)
        self.head = convolution(spatial_dims)(width, out_channels, kernel_size=1)
        self.upsample = ToImage(
            spatial_dims, out_channels, strides[self.level], upsample=upsample, align_corners=align_corners
        )
        self.auxiliary = FCNHead(spatial_dims, channels[-2], out_channels, norm=norm) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        features = self.encoder(x)
        low = self.low_level(features[self.level])
        high = resize(self.aspp(features[-1]), low.shape[2:], self.align_corners)
        logits = self.upsample(self.head(self.refine(torch.cat((high, low), dim=1))), size)
        if not self.training or self.auxiliary is None:
            return logits
        return [logits, resize(self.auxiliary(features[-2]), size)]


def _level_of_stride(strides: Sequence[Sequence[int]], stride: int) -> int:
    """The first feature that is down-sampled by `stride` along some axis, else the one before the last."""
    levels = [level for level, of in enumerate(strides[:-1]) if max(of) >= stride]
    return levels[0] if levels else len(strides) - 2
