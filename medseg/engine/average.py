"""An exponential moving average of the weights: steadier than the last step's, at no cost in prediction."""

from __future__ import annotations

import torch
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]


def average_weights(network: torch.nn.Module, decay: float) -> AveragedModel:
    """A copy of the network that follows it, `copy = decay * copy + (1 - decay) * network`, buffers too.

    The decay rises as (1 + n) / (10 + n) in the first steps n, so that the initial weights are soon forgotten
    (as in TensorFlow's ExponentialMovingAverage with `num_updates`).
    """

    @torch.no_grad()
    def follow(averaged: Tensors, current: Tensors, steps: torch.Tensor | int) -> None:
        ramped = min(decay, (1 + int(steps)) / (10 + int(steps)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - ramped)
        else:  # counters, as BatchNorm's num_batches_tracked
            torch._foreach_copy_(averaged, current)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
