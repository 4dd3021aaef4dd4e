"""VGG-16 (Simonyan & Zisserman, arXiv 1409.1556) and AlexNet (Krizhevsky, arXiv 1404.5997), without classifiers.

Parameter names are torchvision's (`features.N`), with or without batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import make_norm, per_axis
from medseg.networks.blocks.relu import relu_after
from medseg.networks.encoders.resnet import scaled

VGG16_LAYERS = (2, 2, 3, 3, 3)
VGG16_WIDTHS = (64, 128, 256, 512, 512)
ALEXNET_WIDTHS = (64, 192, 384, 256, 256)

Place = tuple[tuple[int, ...], tuple[float, ...]]


class _Features(nn.Module):
    """`features`, a chain of layers of which some are returned, and where on the image their voxels lie.

    Attributes:
        channels, strides, steps: as of every encoder.
        offsets: the image's coordinate, in voxels, under the first voxel of each feature, one number an axis.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.taps: tuple[int, ...] = ()
        self.channels: tuple[int, ...] = ()
        self.strides: tuple[tuple[int, ...], ...] = ()
        self.steps: tuple[tuple[int, ...], ...] = ()
        self.offsets: tuple[tuple[float, ...], ...] = ()

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                found.append(x)
        return found

    def _describe(self, taps: Sequence[tuple[int, int]], spatial_dims: int) -> None:
        """Fill in the attributes for `taps` (index of the layer, its channels) and initialise."""
        stride: tuple[int, ...] = (1,) * spatial_dims
        offset: tuple[float, ...] = (0.0,) * spatial_dims
        places: dict[int, Place] = {}
        for index, layer in enumerate(self.features):
            if hasattr(layer, "kernel_size"):
                stride, offset = after(stride, offset, layer)
            places[index] = stride, offset
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.taps = tuple(index for index, _ in taps)
        self.channels = tuple(channels for _, channels in taps)
        self.strides = tuple(places[index][0] for index in self.taps)
        self.offsets = tuple(places[index][1] for index in self.taps)
        finer = ((1,) * spatial_dims, *self.strides[:-1])
        self.steps = tuple(
            tuple(b // a for a, b in zip(one, other, strict=True))
            for one, other in zip(finer, self.strides, strict=True)
        )


def after(stride: Sequence[int], offset: Sequence[float], layer: nn.Module) -> Place:
    """Stride and offset of a convolution's or a pooling's output, from those of its input."""
    dims = len(stride)
    kernel, step, padding, dilation = (
        per_axis(getattr(layer, name), dims) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    shift = tuple(d * (k - 1) / 2 - p for k, p, d in zip(kernel, padding, dilation, strict=True))
    return (
        tuple(a * b for a, b in zip(stride, step, strict=True)),
        tuple(o + s * a for o, s, a in zip(offset, shift, stride, strict=True)),
    )


class VGGEncoder(_Features):
    """`(B, in_channels, *spatial)` -> features after the five poolings, strides 2, 4, 8, 16, 32.

    Args:
        layers: convolutions of each stage (VGG-16: 2, 2, 3, 3, 3).
        before_pooling: return the five features before their poolings (strides 1-16), and the last pooling's.
        padding: of the first convolution; FCN's is 100.
        pool_kernel: 2, or 3 as in DeepLab; sizes are `ceil(size / stride)` with both.
        output_stride: no axis is down-sampled further; later poolings keep the size, and the convolutions that follow
            dilate instead (DeepLab v1).
        strides: step of each pooling, one number or one an axis.
        width: factor on all channels, to multiples of 8.
        norm: name of the norm layer after each convolution (`none`, or `batch` for VGG-16-BN).

    Raises:
        ValueError: another number of strides.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        layers: Sequence[int] = VGG16_LAYERS,
        before_pooling: bool = False,
        padding: int = 1,
        pool_kernel: int = 2,
        output_stride: int = 32,
        strides: Sequence[int | Sequence[int]] = (2, 2, 2, 2, 2),
        width: float = 1.0,
        norm: str = "none",
    ) -> None:
        super().__init__()
        if len(strides) != len(layers):
            raise ValueError(f"VGG needs {len(layers)} strides, one a pooling, got {list(strides)}")
        taps: list[tuple[int, int]] = []
        channels = in_channels
        total = dilation = (1,) * spatial_dims
        for stage, (depth, base) in enumerate(zip(layers, VGG16_WIDTHS, strict=True)):
            wide = scaled(base, width)
            for index in range(depth):
                pad = (padding,) * spatial_dims if stage == index == 0 else dilation
                conv = convolution(spatial_dims)(channels, wide, kernel_size=3, padding=pad, dilation=dilation)
                self.features.append(conv)
                self.features.extend(_norm_relu(norm, wide, spatial_dims))
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
        self._describe(taps, spatial_dims)


def _norm_relu(norm: str, channels: int, spatial_dims: int) -> list[nn.Module]:
    if norm == "none":  # nothing in its place: that is how torchvision counts `features.N`
        return [nn.ReLU(inplace=True)]
    layer = make_norm(norm, channels, spatial_dims)
    return [layer, relu_after(layer)]


def _pool(spatial_dims: int, kernel: int, step: Sequence[int], wanted: Sequence[int]) -> nn.Module:
    # An even kernel cannot keep the size, so a pooling that lost its stride to dilation takes 3.
    if any(s != w for s, w in zip(step, wanted, strict=True)):
        kernel = 3
    kernels = tuple(kernel if w > 1 else 1 for w in wanted)
    return Pool[Pool.MAX, spatial_dims](
        kernels, stride=tuple(step), padding=tuple((k - 1) // 2 for k in kernels), ceil_mode=kernel == 2
    )


class AlexNetEncoder(_Features):
    """`(B, in_channels, *spatial)` -> features after the three poolings, strides 8, 16, 32.

    Args:
        padding: of the first convolution: 5 gives sizes of `ceil(size / 4)`, torchvision's is 2, FCN's 100.
        pool_padding: 1 gives sizes of `ceil(size / 2)`; published is 0 (torchvision's network, but that rounds down).
        strides: steps of the first convolution and of the three poolings, one number or one an axis.
        width: factor on all channels, to multiples of 8.
        norm: name of the norm layer after each convolution; the published one is `none`.

    Raises:
        ValueError: another number of strides.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        padding: int = 5,
        pool_padding: int = 1,
        strides: Sequence[int | Sequence[int]] = (4, 2, 2, 2),
        width: float = 1.0,
        norm: str = "none",
    ) -> None:
        super().__init__()
        if len(strides) != 4:
            raise ValueError(f"AlexNet needs 4 strides (first convolution, three poolings), got {list(strides)}")
        steps = [per_axis(stride, spatial_dims) for stride in strides]
        taps: list[tuple[int, int]] = []
        channels = in_channels
        for index, (base, kernel) in enumerate(zip(ALEXNET_WIDTHS, (11, 5, 3, 3, 3), strict=True)):
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
            self.features.extend(_norm_relu(norm, wide, spatial_dims))
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
        self._describe(taps, spatial_dims)
