"""EncNet: context encoding (Zhang et al., arXiv 1803.08904), without the tensor of residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from monai.networks.layers.factories import Dropout
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.core.types import Count, Norm, Share
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import ConvBlock, make_norm, resize


class Encoding(nn.Module):
    """`(B, C, *spatial)` -> residuals to K codewords `(B, K, C)`: `sum_i softmax_k(s_k |x_i - d_k|^2) (x_i - d_k)`.

    The residuals themselves, `(B, N, K, C)`, would take 2 GiB a sample at 32^3; expanding the square and the sum
    leaves `(B, N, K)`. In fp32 also inside autocast: the expanded square cancels.
    """

    def __init__(self, channels: int, codes: int) -> None:
        super().__init__()
        bound = (codes * channels) ** -0.5
        self.codewords = nn.Parameter(torch.empty(codes, channels).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.empty(codes).uniform_(-1, 0))  # what the paper writes as -s_k

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.flatten(2).float()  # (B, C, N)
            codewords = self.codewords.float()
            squares = (
                x.square().sum(1).unsqueeze(2)  # (B, N, 1)
                - 2 * torch.matmul(x.transpose(1, 2), codewords.t())  # (B, N, K)
                + codewords.square().sum(1)  # (K,)
            )
            weights = (self.scale * squares).softmax(dim=2)
            gathered = torch.matmul(weights.transpose(1, 2), x.transpose(1, 2))  # (B, K, C)
            return gathered - weights.sum(1).unsqueeze(2) * codewords


class ContextEncoding(nn.Module):
    """A map `(B, C, *spatial)` -> the map with its channels weighted by the scene, and the scene's code `(B, C)`."""

    def __init__(self, spatial_dims: int, channels: int, *, codes: int, norm: str) -> None:
        super().__init__()
        self.project = ConvBlock(spatial_dims, channels, channels, kernel_size=1, norm=norm, activation="relu")
        self.encoding = Encoding(channels, codes)
        # over codes: a map of one axis (C) with `codes` channels
        self.norm = nn.BatchNorm1d(codes) if norm == "batch" else make_norm(norm, codes, spatial_dims)
        self.attention = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.encoding(self.project(x))
        if isinstance(self.norm, nn.Identity):  # a sum over all voxels would saturate the gate
            codes = codes / x.shape[2:].numel()
        code = F.relu(self.norm(codes)).mean(dim=1)
        gate = self.attention(code).sigmoid()
        gate = gate.reshape(*gate.shape, *(1 for _ in x.shape[2:]))
        return F.relu(x + x * gate), code


class EncNet(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    In training a list: the logits, with `auxiliary` those of a head on the second last feature, with `presence` the
    logits `(B, out_channels)` of which classes the image holds (the paper's SE loss: binary cross-entropy, weight 0.2).

    Args:
        encoder: the name of one; its output stride is 8, and a ResNet has the deep stem, unless `encoder_options` says
            otherwise.
        channels: width of the head (512 as published).
        codes: number of codewords.
        lateral: join the second and third last features too, each by a 1x1 convolution (published for PASCAL).
        presence: in training predict which classes are in the image too.
    """

    published: ClassVar = {"resnet": {"stem": "deep"}}  # mmsegmentation's, whose parameter counts these networks have

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
        channels: Count = 512,
        codes: Count = 32,
        lateral: bool = False,
        presence: bool = True,
        dropout: Share = 0.1,
    ) -> None:
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm, output_stride=8)
        widths = self.encoder.channels
        self.bottleneck = ConvBlock(spatial_dims, widths[-1], channels, norm=norm, activation="relu")
        self.laterals: nn.ModuleList | None = None
        if lateral:
            self.laterals = nn.ModuleList(
                ConvBlock(spatial_dims, width, channels, kernel_size=1, norm=norm, activation="relu")
                for width in widths[-3:-1]
            )
            self.fusion = ConvBlock(spatial_dims, 3 * channels, channels, norm=norm, activation="relu")
        self.context = ContextEncoding(spatial_dims, channels, codes=codes, norm=norm)
        self.presence = nn.Linear(channels, out_channels) if presence else None
        self.dropout = Dropout[Dropout.DROPOUT, spatial_dims](dropout)
        self.head = convolution(spatial_dims)(channels, out_channels, kernel_size=1)
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        features = self.encoder(x)
        y = self.bottleneck(features[-1])
        if self.laterals is not None:
            sides = [
                resize(lateral(side), y.shape[2:]) for lateral, side in zip(self.laterals, features[-3:-1], strict=True)
            ]
            y = self.fusion(torch.cat([y, *sides], dim=1))
        y, code = self.context(y)
        logits = resize(self.head(self.dropout(y)), x.shape[2:])
        presence = [self.presence(code)] if self.training and self.presence is not None else []
        return self.outputs(logits, x, features, behind=presence)
