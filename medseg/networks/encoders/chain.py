"""Encoders that are one chain of layers (VGG, AlexNet), and where on the image the voxels of their features lie."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.networks.blocks.layers import make_norm, per_axis
from medseg.networks.blocks.relu import relu_after
from medseg.networks.encoders.base import Encoder

Place = tuple[tuple[int, ...], tuple[float, ...]]


class Chain(Encoder):
    """`features`, a chain of layers of which some are returned, and where on the image their voxels lie.

    Attributes:
        offsets: the image's coordinate, in voxels, under the first voxel of each feature, one number an axis.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.taps: tuple[int, ...] = ()
        self.offsets: tuple[tuple[float, ...], ...] = ()

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                found.append(x)
        return found

    def describe(self, taps: Sequence[tuple[int, int]], spatial_dims: int) -> None:
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


def norm_relu(norm: str, channels: int, spatial_dims: int) -> list[nn.Module]:
    if norm == "none":  # nothing in its place: that is how torchvision counts `features.N`
        return [nn.ReLU(inplace=True)]
    layer = make_norm(norm, channels, spatial_dims)
    return [layer, relu_after(layer)]
