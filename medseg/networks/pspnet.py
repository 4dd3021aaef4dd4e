"""PSPNet (Zhao et al., arXiv 1612.01105), the form of the authors' PyTorch code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from monai.networks.layers.factories import Dropout, Pool
from torch import Tensor, nn

from medseg.core.types import Count, Counts, Norm, OutputStride, Share, Upsampling
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.aspp import normalise_pooled, pooled_norm
from medseg.networks.blocks.conv_norm_relu import conv_norm_relu
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import resize
from medseg.networks.blocks.upsampling import ToImage


class PyramidPooling(nn.Module):
    """`(B, C, *spatial)` -> `(B, 2C, *spatial)`: the feature and its means in grids of `bins` cells an axis.

    Each grid is reduced to `C / len(bins)` channels and resized to the feature.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        bins: Sequence[int],
        *,
        norm: str = "batch",
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        width = in_channels // len(bins)
        self.align_corners = align_corners
        self.out_channels = in_channels + width * len(bins)
        self.pools = nn.ModuleList(Pool[Pool.ADAPTIVEAVG, spatial_dims](cells) for cells in bins)
        self.convs = nn.ModuleList(
            conv_norm_relu(
                spatial_dims, in_channels, width, 1, norm=pooled_norm(norm, width, spatial_dims) if cells == 1 else norm
            )
            for cells in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for pool, layers in zip(self.pools, self.convs, strict=True):
            conv, norm, relu = layers.children()
            grid = relu(normalise_pooled(norm, conv(pool(x))))
            parts.append(resize(grid, x.shape[2:], self.align_corners))
        return torch.cat(parts, dim=1)


class PSPNet(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    Args:
        bins: cells along each axis of the grids.
        width: channels of the convolution that joins feature and grids.
        align_corners: of all resizes; the published code trains at sizes of `8 n + 1`, where that is exact.
        encoder_options: further options of the encoder; a ResNet has by default the published `stem: deep_wide` and
            `dilate_first_block: true`.
    """

    published: ClassVar = {"resnet": {"stem": "deep_wide", "dilate_first_block": True}}

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
        bins: Counts = (1, 2, 3, 6),
        width: Count = 512,
        dropout: Share = 0.1,
        align_corners: bool = True,
        upsample: Upsampling = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm, output_stride=output_stride)
        channels, stride = self.encoder.channels, self.encoder.strides[-1]
        self.align_corners = align_corners
        self.pyramid = PyramidPooling(spatial_dims, channels[-1], bins, norm=norm, align_corners=align_corners)
        self.head = nn.Sequential(
            *conv_norm_relu(spatial_dims, self.pyramid.out_channels, width, 3, norm=norm),
            Dropout[Dropout.DROPOUT, spatial_dims](dropout),
            convolution(spatial_dims)(width, out_channels, kernel_size=1),
        )
        self.upsample = ToImage(spatial_dims, out_channels, stride, upsample=upsample, align_corners=align_corners)
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.upsample(self.head(self.pyramid(features[-1])), x.shape[2:])

    def auxiliary_logits(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        assert self.auxiliary is not None
        return resize(self.auxiliary(features[-2]), x.shape[2:], self.align_corners)
