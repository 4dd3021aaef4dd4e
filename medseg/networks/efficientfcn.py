"""EfficientFCN: holistically-guided decoding (Liu et al., arXiv 2008.10487), as the authors' code has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Dropout
from torch import Tensor, nn

from medseg.core.types import Count, Norm, Share
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import ConvBlock, resize


class HolisticDecoder(nn.Module):
    """Three features, the finest first, -> one map `(B, out_channels, *size of the finest)`.

    `codewords` weighted sums over all positions of the coarsest grid (where) are assembled anew at every position of
    the finest grid (what), guided by the features there.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: Sequence[int],
        *,
        width: int = 512,
        out_channels: int = 1024,
        codewords: int = 256,
        norm: str = "batch",
    ) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, activation: str | None = "relu") -> ConvBlock:
            return ConvBlock(spatial_dims, inputs, outputs, kernel_size=1, norm=norm, activation=activation)

        fine, middle, coarse = channels
        joined = fine + 2 * width  # the finest feature is used as it is
        self.reduce_middle = conv(middle, width)
        self.reduce_coarse = conv(coarse, width)
        self.base = conv(joined, out_channels)
        self.spread = nn.Sequential(conv(joined, codewords), conv(codewords, codewords, None))
        self.guide = conv(joined, out_channels)
        self.assemble = nn.Sequential(conv(out_channels, codewords), conv(codewords, codewords))
        self.fuse = conv(2 * out_channels, out_channels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        fine, middle, coarse = features
        levels = [fine, self.reduce_middle(middle), self.reduce_coarse(coarse)]
        base, guide = (
            torch.cat([resize(x, target.shape[2:], align_corners=True) for x in levels], dim=1)
            for target in (coarse, fine)
        )
        values = self.base(base)
        where = self.spread(base).flatten(2).softmax(dim=2)  # (B, n, N): for each codeword, over positions
        codewords = torch.matmul(values.flatten(2), where.transpose(1, 2))  # (B, C, n)
        guided = self.guide(guide)
        what = self.assemble(guided + values.mean(dim=tuple(range(2, values.ndim)), keepdim=True))
        assembled = torch.matmul(codewords, what.flatten(2)) * what.shape[1] ** -0.5  # (B, C, N)
        return self.fuse(torch.cat([assembled.reshape(guided.shape), guided], dim=1))


class EfficientFCN(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    Args:
        encoder: the name of one, not dilated; its last three features are used.
        width: channels of the two coarser features after their 1x1 convolutions (512 as published).
        wide: channels of the codewords and of the assembled map (1024 as published).
        codewords: their number (256; 600 for ADE20K with ResNet-101).
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
        encoder_options: Mapping[str, Any] | None = None,
        width: Count = 512,
        wide: Count = 1024,
        codewords: Count = 256,
        dropout: Share = 0.1,
    ) -> None:
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm)
        channels = self.encoder.channels[-3:]
        self.decoder = HolisticDecoder(
            spatial_dims, channels, width=width, out_channels=wide, codewords=codewords, norm=norm
        )
        self.dropout = Dropout[Dropout.DROPOUT, spatial_dims](dropout)
        self.head = convolution(spatial_dims)(wide, out_channels, kernel_size=1)
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        logits = self.head(self.dropout(self.decoder(features[-3:])))
        return resize(logits, x.shape[2:], align_corners=True)
