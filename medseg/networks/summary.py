"""What a network costs: parameters and multiply-accumulates."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@torch.no_grad()
def count_gmac(network: nn.Module, image: torch.Tensor) -> float:
    """Billions of multiply-accumulates of one forward pass of `image` `(B, C, *spatial)` in evaluation mode."""
    counter = FlopCounterMode(display=False)
    training = network.training
    network.eval()
    with counter:
        network(image)
    network.train(training)
    return counter.get_total_flops() / 2e9
