"""AlexNet (Krizhevsky, arXiv 1404.5997) without its classifier; parameter names are torchvision's (`features.N`)."""

from __future__ import annotations

from monai.networks.layers.factories import Pool

from medseg.core.types import Count, EncoderNorm, PoolPadding, Positive, Steps, chosen
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import per_axis
from medseg.networks.encoders.base import scaled
from medseg.networks.encoders.chain import Chain, norm_relu

WIDTHS = (64, 192, 384, 256, 256)


class AlexNetEncoder(Chain):
    """`(B, in_channels, *spatial)` -> features after the three poolings, strides 8, 16, 32.

    Args:
        padding: of the first convolution: 5 gives sizes of `ceil(size / 4)`, torchvision's is 2, FCN's 100.
        pool_padding: 1 gives sizes of `ceil(size / 2)`; published is 0 (torchvision's network, but that rounds down).
        strides: steps of the first convolution and of the three poolings, one number or one an axis.
        norm: after each convolution; the published one is `none`.

    Raises:
        ValueError: another number of strides.
    """

    kind = "alexnet"
    classifier_kernel = 6

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        padding: Count = 5,
        pool_padding: PoolPadding = 1,
        strides: Steps = (4, 2, 2, 2),
        width: Positive = 1.0,
        norm: EncoderNorm = "none",
    ) -> None:
        super().__init__()
        self.classifier_norm = norm
        chosen(pool_padding, PoolPadding, "pool_padding")
        if len(strides) != 4:
            raise ValueError(f"AlexNet needs 4 strides (first convolution, three poolings), got {list(strides)}")
        steps = [per_axis(stride, spatial_dims) for stride in strides]
        taps: list[tuple[int, int]] = []
        channels = in_channels
        for index, (base, kernel) in enumerate(zip(WIDTHS, (11, 5, 3, 3, 3), strict=True)):
            wide = scaled(base, width)
            self.features.append(
                convolution(spatial_dims)(
                    channels,
                    wide,
                    kernel_size=kernel,
                    stride=1 if index else steps[0],
                    padding=kernel // 2 if index else padding,
                )
            )
            self.features.extend(norm_relu(norm, wide, spatial_dims))
            channels = wide
            if index in (0, 1, 4):
                step = steps[len(taps) + 1]
                kernels = tuple(3 if s > 1 else 1 for s in step)
                pad = tuple(pool_padding if s > 1 else 0 for s in step)
                # Caffe rounds up; with padding, rounding down gives the same size.
                ceil = pool_padding == 0
                pool = Pool[Pool.MAX, spatial_dims](kernels, stride=step, padding=pad, ceil_mode=ceil)
                self.features.append(pool)
                taps.append((len(self.features) - 1, channels))
        self.describe(taps, spatial_dims)
