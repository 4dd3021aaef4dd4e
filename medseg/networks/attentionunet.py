"""AttentionUNet: MONAI's, for any size of image."""

from __future__ import annotations

from typing import Any

from monai.networks import nets
from torch import Tensor

from medseg.core.types import Counts, Share, Steps
from medseg.networks.blocks.convolution import safe_on_a_cpu
from medseg.networks.blocks.monai import cropped, level_strides, padded, total_stride


class AttentionUNet(nets.AttentionUnet):
    """Attention U-Net (Oktay et al., arXiv 1804.03999) with batch norm, any size of image.

    Args:
        widths: channels at each level, the finest first.
        strides: down-sampling before each level, one number or one an axis; default 1, then 2 each.
        dropout: behind every convolution.

    Raises:
        ValueError: fewer than three levels, another number of strides, or a first one that is not 1.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        widths: Counts = (32, 64, 128, 256, 320),
        strides: Steps | None = None,
        dropout: Share = 0.0,
    ) -> None:
        steps = level_strides(strides, len(widths), spatial_dims)
        strides_down: list[Any] = steps[1:]  # MONAI's annotation leaves out that they may be one an axis
        super().__init__(
            spatial_dims, in_channels, out_channels, channels=list(widths), strides=strides_down, dropout=dropout
        )
        self.multiples = total_stride(steps)
        safe_on_a_cpu(self)

    def forward(self, x: Tensor) -> Tensor:
        return cropped(super().forward(padded(x, self.multiples, several=True)), x.shape[2:])
