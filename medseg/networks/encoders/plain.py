"""The plain convolutional encoder of a U-Net: a stack of blocks at each resolution."""

from __future__ import annotations

from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from medseg.core.types import Activation, Count, Counts, Downsampling, EncoderNorm, Share, Steps, chosen
from medseg.networks.blocks.layers import ConvStack, per_axis
from medseg.networks.encoders.base import Encoder
from medseg.networks.levels import halving, per_level


class PlainEncoder(Encoder):
    """`(B, in_channels, *spatial)` -> one feature a level, `(B, channels[i], *ceil(spatial / strides[i]))`.

    Args:
        widths: channels at each level, the finest first.
        strides: down-sampling before each level, one number or one an axis; default 1, then 2 each.
        kernel_sizes: kernel of each level, odd, one number or one an axis; default 3 each.
        blocks_per_level: convolution blocks at each level.
        activation: behind every norm.
        residual: a shortcut around the blocks of each level.
        dropout: behind every convolution.
        downsample: `stride` of each level's first convolution, or max `pool`ing before it.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        widths: Counts = (32, 64, 128, 256, 320),
        *,
        strides: Steps | None = None,
        kernel_sizes: Steps | None = None,
        blocks_per_level: Count = 2,
        norm: EncoderNorm = "instance",
        activation: Activation = "leakyrelu",
        residual: bool = False,
        dropout: Share = 0.0,
        downsample: Downsampling = "stride",
    ) -> None:
        super().__init__()
        chosen(downsample, Downsampling, "downsample")
        levels = len(widths)
        strides = per_level("strides", halving(levels) if strides is None else strides, levels)
        kernel_sizes = per_level("kernel_sizes", [3] * levels if kernel_sizes is None else kernel_sizes, levels)
        self.channels = tuple(widths)
        self.steps = tuple(per_axis(step, spatial_dims) for step in strides)
        self.kernel_sizes = tuple(per_axis(kernel, spatial_dims) for kernel in kernel_sizes)
        cumulative = (1,) * spatial_dims
        totals = []
        for step in self.steps:
            cumulative = tuple(c * s for c, s in zip(cumulative, step, strict=True))
            totals.append(cumulative)
        self.strides = tuple(totals)
        self.pools = nn.ModuleList()
        if downsample == "pool":
            self.pools.extend(
                Pool[Pool.MAX, spatial_dims](step, stride=step, ceil_mode=True) if max(step) > 1 else nn.Identity()
                for step in self.steps
            )
        self.levels = nn.ModuleList(
            ConvStack(
                spatial_dims,
                in_channels if level == 0 else widths[level - 1],
                widths[level],
                blocks=blocks_per_level,
                kernel_size=self.kernel_sizes[level],
                stride=1 if self.pools else self.steps[level],
                norm=norm,
                activation=activation,
                residual=residual,
                dropout=dropout,
            )
            for level in range(levels)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for index, level in enumerate(self.levels):
            x = level(self.pools[index](x) if self.pools else x)
            features.append(x)
        return features
