"""The head that all networks train beside their own."""

from __future__ import annotations

from torch import nn

from medseg.networks.blocks.conv_norm_relu import conv_norm_relu
from medseg.networks.blocks.convolution import convolution


class FCNHead(nn.Sequential):
    """Feature -> logits at its size: 3x3 convolution to a quarter of the channels, norm, ReLU, dropout, 1x1."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, *, norm: str = "batch", dropout: float = 0.1
    ) -> None:
        width = max(in_channels // 4, 1)
        super().__init__(
            *conv_norm_relu(spatial_dims, in_channels, width, 3, norm=norm),
            nn.Dropout(dropout),
            convolution(spatial_dims)(width, out_channels, kernel_size=1),
        )
