"""HRNetV2 for segmentation (Wang et al., arXiv 1908.07919): all branches resized to the finest, joined, classified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.core.types import Norm
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import make_norm, resize
from medseg.networks.blocks.relu import relu_after


class HRNetHead(nn.Module):
    """Features -> logits on the finest: 1x1 convolution with bias, norm, ReLU, 1x1 (official names `last_layer.N`)."""

    def __init__(self, spatial_dims: int, channels: Sequence[int], out_channels: int, *, norm: str = "batch") -> None:
        super().__init__()
        conv = convolution(spatial_dims)
        wide = sum(channels)
        layer = make_norm(norm, wide, spatial_dims)
        self.last_layer = nn.Sequential(
            conv(wide, wide, kernel_size=1),
            layer,
            relu_after(layer),
            conv(wide, out_channels, kernel_size=1),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        size = features[0].shape[2:]
        return self.last_layer(torch.cat([resize(x, size) for x in features], dim=1))


class HRNet(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    Args:
        encoder: `hrnet_w18s`, `hrnet_w18`, `hrnet_w32`, `hrnet_w48`, or any other with features at several strides.
        encoder_options: further options of the encoder, as `width` and `stem_width` for a small machine.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "hrnet_w18",
        auxiliary: bool = False,
        norm: Norm = "batch",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm)
        self.head = HRNetHead(spatial_dims, self.encoder.channels[-4:], out_channels, norm=norm)
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        return resize(self.head(features[-4:]), x.shape[2:])
