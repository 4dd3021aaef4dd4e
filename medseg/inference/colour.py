"""Pictures stay bytes until the network sees them: the inferer that scales red, green and blue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

# normalization -> mean and divisor of each channel, from 0 to 255: ImageNet's as torchvision, timm and mmsegmentation
# take them; `inception` is what Inception and EfficientNet-Lite were trained with.
COLOUR_SCALES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = MappingProxyType(
    {
        "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        "inception": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    }
)


class ColourInferer(Inferer):
    """Give `(image - mean) / std` to another inferer; images `(B, C, *spatial)` of bytes, or of floats from 0 to 255.

    Args:
        inferer: what applies the network (a sliding window pads with 0, now the mean colour).
        mean, std: one number a channel.

    Raises:
        ValueError: an image of another number of channels.
    """

    def __init__(self, inferer: Inferer, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.inferer = inferer
        self.mean = torch.tensor(mean)
        self.std = torch.tensor(std)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if inputs.shape[1] != len(self.mean):
            raise ValueError(f"an image of {inputs.shape[1]} channels, but colours of {len(self.mean)}")
        shape = [1, -1] + [1] * (inputs.ndim - 2)
        mean, scale = (x.to(inputs.device).view(shape) for x in (self.mean, 1 / self.std))
        return self.inferer((inputs.float() - mean).mul_(scale), network, *args, **kwargs)
