"""SegResNet: MONAI's, for any size of image."""

from __future__ import annotations

from monai.networks import nets
from torch import Tensor

from medseg.core.types import Count, Counts, Norm, Share, Upsampling, chosen
from medseg.networks.blocks.convolution import safe_on_a_cpu
from medseg.networks.blocks.monai import cropped, norm_named, padded

# Our names of how a map is brought to a finer resolution -> MONAI's.
MODES = {"linear": "nontrainable", "transposed": "deconv"}


class SegResNet(nets.SegResNet):
    """Residual encoder-decoder without its autoencoder branch (Myronenko, arXiv 1810.11654), any size of image.

    Args:
        width: channels at full resolution, twice as many at each coarser one (32 in the paper).
        blocks_down: residual blocks at each resolution on the way down.
        blocks_up: and on the way up, one entry less.
        norm: of every convolution; `group` has 8 groups.
        dropout: after the first convolution.
        upsample: `linear` resize or `transposed` convolution.

    Raises:
        ValueError: lists that do not fit together, an unknown norm or upsample, a width that groups do not divide.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        width: Count = 8,
        blocks_down: Counts = (1, 2, 2, 4),
        blocks_up: Counts = (1, 1, 1),
        norm: Norm = "group",
        dropout: Share = 0.0,
        upsample: Upsampling = "linear",
    ) -> None:
        if len(blocks_up) != len(blocks_down) - 1:
            raise ValueError(f"blocks_up needs {len(blocks_down) - 1} entries, one less than blocks_down")
        if norm == "group" and width % 8:
            raise ValueError(f"width {width} must be a multiple of 8, the number of groups of norm group")
        super().__init__(
            spatial_dims=spatial_dims,
            init_filters=width,
            in_channels=in_channels,
            out_channels=out_channels,
            dropout_prob=dropout or None,
            norm=norm_named(norm),
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
            upsample_mode=MODES[chosen(upsample, Upsampling, "upsample")],
        )
        self.multiples = (2 ** (len(blocks_down) - 1),) * spatial_dims
        safe_on_a_cpu(self)

    def forward(self, x: Tensor) -> Tensor:
        return cropped(super().forward(padded(x, self.multiples, several=True)), x.shape[2:])
