"""Channels taken out of training samples, so that one network learns to do with any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from medseg.data.training.augment.base import on_device
from medseg.data.training.streams import stream

STREAM = "channel_dropout"


class ChannelDropout:
    """Take channels out of a batch: `image` `(B, C * context, *spatial)`, `sample` `(B,)` whole numbers.

    A channel that is taken out is 0 everywhere, as preprocessing leaves one that a case lacks. Each goes with the same
    probability, but of the channels that a sample has, one always stays: at a half, every subset is about as frequent
    as any other. Which ones is a function of `(seed, sample number)`. The others are not scaled up: an instance norm
    behind the first convolution takes that out again, and prediction would have to do the same.

    Args:
        probability: that a channel is taken out.
        augment: random changes that come before; what was 0 everywhere stays so, whatever they add.
        context: neighbouring slices of each channel, which go with it.
    """

    def __init__(
        self,
        probability: float,
        seed: int,
        augment: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
        context: int = 1,
    ) -> None:
        self.probability, self.seed, self.augment, self.context = probability, seed, augment, context

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        there = batch["image"].unflatten(1, (-1, self.context)).flatten(2).any(2)
        batch = dict(batch) if self.augment is None else self.augment(batch)
        image = batch["image"]
        draws = [stream(self.seed, sample, STREAM).random(there.shape[1]) for sample in batch["sample"].tolist()]
        kept = chosen_channels(there, on_device(np.stack(draws), image.device), self.probability)
        kept = kept.repeat_interleave(self.context, 1)
        return batch | {"image": image * kept.view(*kept.shape, *[1] * (image.ndim - 2))}


def chosen_channels(there: torch.Tensor, draws: torch.Tensor, probability: float) -> torch.Tensor:
    """Which channels `(B, C)` of those that are there stay: those whose draw (0 to 1) is not below the probability.

    Where that is none, the one with the largest draw stays.
    """
    kept = there & (draws >= probability)
    largest = F.one_hot(draws.masked_fill(~there, -1).argmax(1), there.shape[1]).bool()
    return kept | (largest & there & ~kept.any(1, keepdim=True))
