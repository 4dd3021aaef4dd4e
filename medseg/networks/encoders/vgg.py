"""VGG-16 (Simonyan & Zisserman, arXiv 1409.1556) without its classifier.

Parameter names are torchvision's (`features.N`), with or without batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.factories import Pool
from torch import nn

from medseg.core.types import Count, Counts, EncoderNorm, OutputStride, PoolKernel, Positive, Steps, chosen
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import per_axis
from medseg.networks.encoders.base import scaled
from medseg.networks.encoders.chain import Chain, norm_relu

WIDTHS = (64, 128, 256, 512, 512)


class VGGEncoder(Chain):
    """`(B, in_channels, *spatial)` -> features after the five poolings, strides 2, 4, 8, 16, 32.

    Args:
        layers: convolutions of each stage (VGG-16: 2, 2, 3, 3, 3).
        before_pooling: return the five features before their poolings (strides 1-16), and the last pooling's.
        padding: of the first convolution; FCN's is 100.
        pool_kernel: 2, or 3 as in DeepLab; sizes are `ceil(size / stride)` with both.
        output_stride: no axis is down-sampled further; later poolings keep the size, and the convolutions that follow
            dilate instead (DeepLab v1).
        strides: step of each pooling, one number or one an axis.
        norm: after each convolution (`none`, or `batch` for VGG-16-BN).

    Raises:
        ValueError: another number of strides.
    """

    kind = "vgg"
    classifier_kernel = 7

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        layers: Counts = (2, 2, 3, 3, 3),
        before_pooling: bool = False,
        padding: Count = 1,
        pool_kernel: PoolKernel = 2,
        output_stride: OutputStride = 32,
        strides: Steps = (2, 2, 2, 2, 2),
        width: Positive = 1.0,
        norm: EncoderNorm = "none",
    ) -> None:
        super().__init__()
        self.classifier_norm = norm
        chosen(pool_kernel, PoolKernel, "pool_kernel")
        chosen(output_stride, OutputStride, "output_stride")
        if len(strides) != len(layers):
            raise ValueError(f"VGG needs {len(layers)} strides, one a pooling, got {list(strides)}")
        taps: list[tuple[int, int]] = []
        channels = in_channels
        total = dilation = (1,) * spatial_dims
        for stage, (depth, base) in enumerate(zip(layers, WIDTHS, strict=True)):
            wide = scaled(base, width)
            for index in range(depth):
                pad = (padding,) * spatial_dims if stage == index == 0 else dilation
                conv = convolution(spatial_dims)(channels, wide, kernel_size=3, padding=pad, dilation=dilation)
                self.features.append(conv)
                self.features.extend(norm_relu(norm, wide, spatial_dims))
                channels = wide
            if before_pooling:
                taps.append((len(self.features) - 1, channels))
            wanted = per_axis(strides[stage], spatial_dims)
            fits = [t * s <= output_stride for t, s in zip(total, wanted, strict=True)]
            step = tuple(s if ok else 1 for s, ok in zip(wanted, fits, strict=True))
            total = tuple(t * s for t, s in zip(total, step, strict=True))
            self.features.append(_pool(spatial_dims, pool_kernel, step, wanted))
            dilation = tuple(d if ok else d * s for d, s, ok in zip(dilation, wanted, fits, strict=True))
            if not before_pooling or stage == len(layers) - 1:
                taps.append((len(self.features) - 1, channels))
        self.describe(taps, spatial_dims)


def _pool(spatial_dims: int, kernel: int, step: Sequence[int], wanted: Sequence[int]) -> nn.Module:
    # An even kernel cannot keep the size, so a pooling that lost its stride to dilation takes 3.
    if any(s != w for s, w in zip(step, wanted, strict=True)):
        kernel = 3
    kernels = tuple(kernel if w > 1 else 1 for w in wanted)
    return Pool[Pool.MAX, spatial_dims](
        kernels, stride=tuple(step), padding=tuple((k - 1) // 2 for k in kernels), ceil_mode=kernel == 2
    )
