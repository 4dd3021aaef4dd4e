"""SwinUNETR: MONAI's, for any size of image."""

from __future__ import annotations

from monai.networks import nets
from torch import Tensor

from medseg.core.types import Count, Counts, Norm, Share
from medseg.networks.blocks.convolution import safe_on_a_cpu
from medseg.networks.blocks.monai import cropped, norm_named, padded


class SwinUNETR(nets.SwinUNETR):
    """Swin transformer encoder, convolutional decoder (Hatamizadeh et al., arXiv 2201.01266), any size of image.

    Args:
        width: channels at full resolution, a multiple of 12 (48 in the paper).
        depths: transformer blocks of the four stages.
        attention_heads: of the four stages; each divides its channels, `width * 2 ** stage`.
        window_size: side of the windows of attention, in voxels of each stage's grid.
        norm: of the convolutions; `instance` is MONAI's, without scale and shift.
        dropout: in the transformer.
        checkpoint: recompute the transformer's blocks in the backward pass instead of keeping their activations.
        v2: a residual convolution block before each stage (SwinUNETR-V2).

    Raises:
        ValueError: a width or number of heads that does not divide, an unknown norm.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        width: Count = 24,
        depths: Counts = (2, 2, 2, 2),
        attention_heads: Counts = (3, 6, 12, 24),
        window_size: Count = 7,
        norm: Norm = "instance",
        dropout: Share = 0.0,
        checkpoint: bool = False,
        v2: bool = False,
    ) -> None:
        if len(depths) != 4 or len(attention_heads) != 4:
            raise ValueError(f"four stages: depths {list(depths)}, attention_heads {list(attention_heads)}")
        for stage, heads in enumerate(attention_heads):
            if width * 2**stage % heads:
                raise ValueError(f"attention_heads: {heads} do not divide the {width * 2**stage} channels of a stage")
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            depths=tuple(depths),
            num_heads=tuple(attention_heads),
            window_size=window_size,
            feature_size=width,
            norm_name="instance" if norm == "instance" else norm_named(norm),
            drop_rate=dropout,
            use_checkpoint=checkpoint,
            spatial_dims=spatial_dims,
            use_v2=v2,
        )
        self.multiples = (32,) * spatial_dims
        safe_on_a_cpu(self)

    def forward(self, x: Tensor) -> Tensor:
        return cropped(super().forward(padded(x, self.multiples, several=True)), x.shape[2:])
