"""DeepLab v3+ (Chen et al., arXiv 1802.02611): DeepLab v3's pyramid, then a decoder with a finer feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.core.types import Count, Counts, Norm, OutputStride, Share, Upsampling
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.aspp import ASPP, rates_at
from medseg.networks.blocks.conv_norm_relu import conv_norm_relu
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import resize
from medseg.networks.blocks.upsampling import ToImage


class DeepLabV3Plus(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    ASPP's map is resized to the encoder's feature of stride 4, joined by 48 channels of that, and refined by one 3x3
    convolution.

    Args:
        multi_grid: factors on the dilation of the encoder's last stage.
        rates: dilation of ASPP's three convolutions; default 6, 12, 18 at an output stride of 16, twice as much at 8.
        width: channels of ASPP and of the decoder.
        low_level_width: channels that the finer feature is reduced to.
        separable: depthwise separable convolutions in ASPP and decoder, and one more behind ASPP: with `align_corners`,
            `dilate_first_block` and rates of 12, 24, 36 the form of segmentation-models-pytorch.
        dropout: behind ASPP.
        align_corners: of the resizes.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet50",
        auxiliary: bool = False,
        norm: Norm = "batch",
        output_stride: OutputStride | None = 16,
        multi_grid: Counts | None = None,
        rates: Counts | None = None,
        width: Count = 256,
        low_level_width: Count = 48,
        separable: bool = False,
        dropout: Share = 0.1,
        align_corners: bool = False,
        upsample: Upsampling = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        asked = {"norm": norm, "output_stride": output_stride, "multi_grid": multi_grid}
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, **asked)
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
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        low = self.low_level(features[self.level])
        high = resize(self.aspp(features[-1]), low.shape[2:], self.align_corners)
        return self.upsample(self.head(self.refine(torch.cat((high, low), dim=1))), x.shape[2:])


def _level_of_stride(strides: Sequence[Sequence[int]], stride: int) -> int:
    """The first feature that is down-sampled by `stride` along some axis, else the one before the last."""
    levels = [level for level, of in enumerate(strides[:-1]) if max(of) >= stride]
    return levels[0] if levels else len(strides) - 2
