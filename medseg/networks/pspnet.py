"""PSPNet (Zhao et al., arXiv 1612.01105), the form of the authors' PyTorch code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Dropout, Pool
from torch import Tensor, nn

from medseg.networks.blocks.aspp import conv_norm_relu, normalise_pooled, pooled_norm
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import resize
from medseg.networks.blocks.upsampling import ToImage
from medseg.networks.encoders import build_encoder
from medseg.networks.fcn import FCNHead


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


class PSPNet(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    Args:
        auxiliary: in training mode return `[logits, logits of an FCN head on the feature before the last]`.
        output_stride: of the encoder; None leaves it to one that cannot dilate.
        bins: cells along each axis of the grids.
        width: channels of the convolution that joins feature and grids.
        align_corners: of all resizes; the published code trains at sizes of `8 n + 1`, where that is exact.
        upsample: `linear`, or `transposed`: learned, and linear to begin with.
        encoder_options: further arguments of the encoder; a ResNet has by default the published `stem: deep_wide` and
            `dilate_first_block: true`.
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
        bins: Sequence[int] = (1, 2, 3, 6),
        width: int = 512,
        dropout: float = 0.1,
        align_corners: bool = True,
        upsample: str = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"norm": norm, "output_stride": output_stride}
        if encoder.startswith("resnet"):
            options |= {"stem": "deep_wide", "dilate_first_block": True}
        self.encoder = build_encoder(encoder, spatial_dims, in_channels, **{**options, **(encoder_options or {})})
        channels, stride = self.encoder.channels, self.encoder.strides[-1]
        self.align_corners = align_corners
        self.pyramid = PyramidPooling(spatial_dims, channels[-1], bins, norm=norm, align_corners=align_corners)
        self.head = nn.Sequential(
            *conv_norm_relu(spatial_dims, self.pyramid.out_channels, width, 3, norm=norm),
            Dropout[Dropout.DROPOUT, spatial_dims](dropout),
            convolution(spatial_dims)(width, out_channels, kernel_size=1),
        )
        self.upsample = ToImage(spatial_dims, out_channels, stride, upsample=upsample, align_corners=align_corners)
        self.auxiliary = FCNHead(spatial_dims, channels[-2], out_channels, norm=norm) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        features = self.encoder(x)
        logits = self.upsample(self.head(self.pyramid(features[-1])), size)
        if not self.training or self.auxiliary is None:
            return logits
        return [logits, resize(self.auxiliary(features[-2]), size, self.align_corners)]
