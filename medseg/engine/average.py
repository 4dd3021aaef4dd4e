"""An exponential moving average of the weights: steadier than the last step's, at no cost in prediction."""

from __future__ import annotations

from itertools import chain

import torch
from torch.optim.swa_utils import AveragedModel


def average_weights(network: torch.nn.Module, decay: float) -> AveragedModel:
    """A copy of the network that follows it, `copy = decay * copy + (1 - decay) * network`, buffers too.

    The decay rises as (1 + n) / (10 + n) in the first steps n, so that the initial weights are soon forgotten
    (as in TensorFlow's ExponentialMovingAverage with `num_updates`).
    """
    return WeightAverage(network, decay)


class WeightAverage(AveragedModel):
    """See `average_weights`. PyTorch's own update asks a GPU for the number of steps, and so waits for every step."""

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: torch.nn.Module) -> None:
        """Follow the network by one step; the first one is copied."""
        steps = int(self.n_averaged)  # which lies on the CPU
        ramped = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        own = chain(self.module.parameters(), self.module.buffers())
        pairs = list(zip(own, chain(model.parameters(), model.buffers()), strict=True))
        weights = [(mine, new) for mine, new in pairs if mine.is_floating_point()]
        torch._foreach_lerp_([mine for mine, _ in weights], [new for _, new in weights], 1 - ramped)
        for mine, new in pairs:
            if not mine.is_floating_point():  # counters, as BatchNorm's num_batches_tracked
                mine.copy_(new)
        self.n_averaged += 1
