"""What a network costs: parameters, multiply-accumulates, and the memory of its activations."""

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


def count_activation_bytes(network: nn.Module, image: torch.Tensor) -> int:
    """Bytes that one forward pass of `image` `(B, C, *spatial)` in training mode keeps for the backward pass.

    Each piece of memory counts once, however many operators keep it; parameters and buffers do not count, the image
    does. What else is needed for a moment only, in either pass, is not in it. Running statistics are updated.
    """
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    training = network.training
    network.train()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(image)  # as long as it lives, so does the memory, whose address is its name
    network.train(training)
    del logits
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)
