"""DeepLab v3 (Chen et al., arXiv 1706.05587): a pyramid of dilated convolutions on the last feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from medseg.core.types import Count, Counts, Norm, OutputStride, Share, Upsampling
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.aspp import ASPP, rates_at
from medseg.networks.blocks.conv_norm_relu import conv_norm_relu
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.upsampling import ToImage


class DeepLabV3(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image: torchvision's.

    Args:
        multi_grid: factors on the dilation of the encoder's last stage (published: 1, 2, 4; torchvision: none).
        rates: dilation of ASPP's three convolutions; default 6, 12, 18 at an output stride of 16, twice as much at 8.
        width: channels of ASPP and of the convolution behind it.
        dropout: behind ASPP.
        align_corners: of the last resize (segmentation-models-pytorch does).
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
        output_stride: OutputStride | None = 8,
        multi_grid: Counts | None = None,
        rates: Counts | None = None,
        width: Count = 256,
        dropout: Share = 0.5,
        align_corners: bool = False,
        upsample: Upsampling = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        asked = {"norm": norm, "output_stride": output_stride, "multi_grid": multi_grid}
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, **asked)
        stride = self.encoder.strides[-1]
        rates = rates_at(stride) if rates is None else rates
        self.head = nn.Sequential(
            ASPP(spatial_dims, self.encoder.channels[-1], width, rates, norm=norm, dropout=dropout),
            *conv_norm_relu(spatial_dims, width, width, 3, norm=norm),
            convolution(spatial_dims)(width, out_channels, kernel_size=1),
        )
        self.upsample = ToImage(spatial_dims, out_channels, stride, upsample=upsample, align_corners=align_corners)
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.upsample(self.head(features[-1]), x.shape[2:])
