"""DeepLab v2 (Chen et al., arXiv 1606.00915): the sum of dilated convolutions, at several scales of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medseg.core.types import Counts, Norm, OutputStride, Positive, Upsampling
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import resize
from medseg.networks.blocks.upsampling import ToImage


class DeepLabV2(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    Args:
        rates: dilation of the convolutions whose logits are summed (ASPP).
        scales: the image is also seen at these sizes, as 0.5 and 0.75 in the paper, and the largest logit wins; in
            training mode the list holds that, then the logits of every scale.
    """

    published: ClassVar = {"resnet": {"dilate_first_block": True}}

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet101",
        auxiliary: bool = False,
        norm: Norm = "batch",
        output_stride: OutputStride | None = 8,
        rates: Counts = (6, 12, 18, 24),
        scales: Sequence[Positive] = (),
        upsample: Upsampling = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm, output_stride=output_stride)
        self.scales = tuple(scales)
        channels = self.encoder.channels[-1]
        self.aspp = nn.ModuleList(
            convolution(spatial_dims)(channels, out_channels, kernel_size=3, padding=rate, dilation=rate)
            for rate in rates
        )
        for conv in self.aspp:
            nn.init.normal_(conv.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.upsample = ToImage(spatial_dims, out_channels, self.encoder.strides[-1], upsample=upsample)
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        features = self.encoder(x)
        pyramid = [self._score(features[-1])]
        for scale in self.scales:
            smaller = resize(x, [max(round(n * scale), 1) for n in size])
            pyramid.append(resize(self._score(self.encoder(smaller)[-1]), pyramid[0].shape[2:]))
        best = pyramid[0]
        for scores in pyramid[1:]:
            best = torch.maximum(best, scores)
        logits = self.upsample(best, size)
        every = [self.upsample(scores, size) for scores in pyramid] if self.training and self.scales else []
        return self.outputs(logits, x, features, before=every)

    def _score(self, feature: Tensor) -> Tensor:
        scores = self.aspp[0](feature)
        for conv in self.aspp[1:]:
            scores = scores + conv(feature)
        return scores
