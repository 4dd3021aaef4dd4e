"""The parameters of a network in groups of their own learning rate."""

from __future__ import annotations

from typing import Any

from torch import nn

from medseg.core.errors import ConfigError, Problem


def parameter_groups(network: nn.Module, learning_rate: float, encoder_factor: float) -> list[dict[str, Any]]:
    """The decoder's parameters with the learning rate, the encoder's with `encoder_factor` times it; 0 freezes them.

    Raises:
        ConfigError: the network has no encoder of its own.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        what = f"is {encoder_factor:g}, but {type(network).__name__} has no encoder apart from its decoder"
        raise ConfigError(Problem("encoder_factor", what, "set it to 1, or choose a network with an encoder"))
    encoders = list(encoder.parameters())
    inside = {id(parameter) for parameter in encoders}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in inside]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": learning_rate}]
    if encoder_factor > 0:
        return [*groups, {"params": encoders, "lr": learning_rate * encoder_factor}]
    for parameter in encoders:
        parameter.requires_grad_(False)
    return groups
