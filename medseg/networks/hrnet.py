"""HRNetV2 for segmentation (Wang et al., arXiv 1908.07919): all branches resized to the finest, joined, classified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import make_norm, resize
from medseg.networks.blocks.relu import relu_after
from medseg.networks.encoders import build_encoder
from medseg.networks.fcn import FCNHead


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


class HRNet(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    Args:
        encoder: `hrnet_w18s`, `hrnet_w18`, `hrnet_w32`, `hrnet_w48`, or any other with features at several strides.
        encoder_options: arguments of the encoder, as `width` and `stem_width` for a small machine.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "hrnet_w18",
        auxiliary: bool = False,
        norm: str = "batch",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder, spatial_dims, in_channels, **{"norm": norm, **(encoder_options or {})})
        channels = self.encoder.channels[-4:]
        self.head = HRNetHead(spatial_dims, channels, out_channels, norm=norm)
        self.auxiliary = FCNHead(spatial_dims, channels[-2], out_channels, norm=norm) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        features = self.encoder(x)[-4:]
        logits = resize(self.head(features), size)
        if not self.training or self.auxiliary is None:
            return logits
        return [logits, resize(self.auxiliary(features[-2]), size)]
