"""What every encoder says about itself."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Encoder(nn.Module):
    """`(B, in_channels, *spatial)` -> features, the finest first: `(B, channels[i], *(about spatial / strides[i]))`.

    Args:
        output_stride: no axis is down-sampled further; later stages dilate instead.
        width: factor on all channels, rounded to multiples of 8 (0.125 or 0.25 fit a small machine in 3D).
        norm: of every layer that has one; `frozenbatch` is batch norm with the mean and variance that it begins with,
            those of pretrained weights, in training too: for batches that are too small to measure them anew.
        checkpoint: compute activations anew in the backward pass: less memory, a third more time.

    Attributes:
        kind: the family, by which a network knows what its published form asks of such an encoder.
        classifier_kernel: of the published classifier's first layer, on the last feature; None where it has none.
        classifier_norm: of the fully connected layers that a network puts behind it.
        channels, strides, steps: of each feature its channels, and its stride to the image and to the feature before
            it, one number an axis.
    """

    kind: ClassVar[str] = ""
    classifier_kernel: ClassVar[int | None] = None
    classifier_norm: str = "none"
    channels: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[int, ...], ...]


def scaled(channels: int, width: float) -> int:
    """`channels * width` as a multiple of 8, at least 8."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)
