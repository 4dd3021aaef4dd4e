"""A volume slice by slice through a network of two dimensions, which sees each slice with its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor


def with_neighbours(volume: Tensor, slices: Tensor, context: int) -> Tensor:
    """`(C, slices, X, Y)` -> `(N, C * context, X, Y)`: of each channel the slice and those before and behind it.

    Beyond the ends of the volume its outermost slice is repeated.

    Args:
        slices: `(N,)` whole numbers.
        context: an odd number of neighbouring slices, the slice itself in their middle.
    """
    around = torch.arange(context, device=slices.device) - context // 2
    index = (slices[:, None] + around).clamp_(0, volume.shape[1] - 1)
    return volume[:, index].movedim(0, 1).flatten(1, 2)


class SliceInferer(Inferer):
    """Logits `(1, K, slices, X, Y)` of a volume `(1, C, slices, X, Y)` by a network of two dimensions.

    Args:
        inferer: gives the network a batch of slices `(N, C * context, X, Y)`: a sliding window, or whole slices.
        context: neighbouring slices that are the network's channels, an odd number.
        at_once: slices in a batch.

    Raises:
        ValueError: an even context.
    """

    def __init__(self, inferer: Inferer, context: int = 1, at_once: int = 8) -> None:
        super().__init__()
        if context % 2 == 0:
            raise ValueError(f"context {context}: expected an odd number of slices")
        self.inferer = inferer
        self.context = context
        self.at_once = at_once

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        (volume,) = inputs
        found: Tensor | None = None
        for slices in torch.arange(volume.shape[1], device=volume.device).split(self.at_once):
            batch = with_neighbours(volume, slices, self.context)
            batch = batch.contiguous(memory_format=torch.channels_last)
            logits = self.inferer(batch, network, *args, **kwargs)
            if found is None:
                found = logits.new_empty(logits.shape[1], volume.shape[1], *logits.shape[2:])
            found[:, slices] = logits.movedim(0, 1)
        assert found is not None, "a volume has slices"
        return found[None]
