"""What a training step will need, computed without memory: before a run is bound to it, and the system ends it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch

from medseg.bundle.facts import DataFacts, network_channels
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, Problem, below
from medseg.core.machine import machine_memory, size_text
from medseg.engine.device import choose_device, choose_precision
from medseg.engine.memory import OutOfMemory
from medseg.engine.trainer import SMALLER_STEPS
from medseg.networks import build_network
from medseg.networks.analysis.pretended import Pretended
from medseg.networks.analysis.summary import count_activation_bytes, count_parameters

SINGLE = re.compile(r"Expected more than 1 (value per channel|spatial element) when training")
WEIGHTS = 3  # times the weights: they, their gradients and what an optimizer keeps of each, at the least


def pretended_network(config: Config, facts: DataFacts) -> Pretended:
    """The config's network without memory; raises ConfigError where its options do not fit together."""
    name, options = config.network.name, config.network.options()
    inner, outer = network_channels(config, facts), len(facts.labels.channels)
    with below("network"):
        return Pretended.built(lambda: build_network(name, in_channels=inner, out_channels=outer, **options))


def check_step(config: Config, facts: DataFacts) -> int:
    """Look at the first training step before it is tried.

    Returns:
        The parameters of the network.

    Raises:
        ConfigError: the network's options do not fit together.
        ConfigError: in it a norm layer sees a single value of a channel, or needs a GPU that is not there.
        ConfigError: the encoder ends in one voxel, of which an instance norm leaves nothing.
        OutOfMemory: on a CPU, what it keeps for the backward pass alone is more than the memory that is free.
    """
    training, device = config.training, choose_device(config.training.device)
    pretended = pretended_network(config, facts)
    parameters = count_parameters(pretended.module)
    if config.network.options().get("norm") == "syncbatch":
        if device.type == "cpu":
            raise ConfigError(Problem("network.norm", "syncbatch is for GPUs, and here is none", "take batch"))
        return parameters  # a step cannot be pretended on a CPU
    growth = config.patch_growth()
    if growth is not None:
        _kept(pretended, config, facts, growth.sizes[0])
    kept = _kept(pretended, config, facts, training.patch_size)
    if kept is None or device.type != "cpu":  # a GPU says itself what it has no room for
        return parameters
    if choose_precision(training.precision, device) != torch.float32:
        kept /= 2
    weights = WEIGHTS * 4 * parameters
    free = machine_memory().free
    if free is not None and kept + weights > free:
        size = f"{training.batch_size} x {' x '.join(map(str, training.patch_size))}"
        what = f"a step of {size} takes more than {size_text(kept + weights)}, but {size_text(free)} of memory are free"
        raise OutOfMemory(Problem("training.batch_size", what, SMALLER_STEPS))
    return parameters


def _kept(pretended: Pretended, config: Config, facts: DataFacts, patch_size: Sequence[int]) -> float | None:
    """Bytes that a step on such patches keeps for the backward pass; None where that cannot be pretended."""
    shape = (config.training.batch_size, network_channels(config, facts), *patch_size)
    try:
        with pretended.mode:
            _check_encoder(pretended.module, config, torch.empty(shape))
            return count_activation_bytes(pretended.module, torch.empty(shape))
    except ConfigError:
        raise
    except Exception as error:  # a layer of a package may need real tensors, and raise anything
        if SINGLE.search(str(error)):
            size = " x ".join(map(str, shape[2:]))
            what = f"a norm layer sees a single value of a channel in {shape[0]} x {size}, and learns nothing of it"
            remedy = "make it, or training.patch_size, larger; or take network.norm=group"
            raise ConfigError(Problem("training.batch_size", what, remedy)) from error
        return None


def _check_encoder(module: torch.nn.Module, config: Config, images: torch.Tensor) -> None:
    """One voxel less its own mean is 0, so nothing comes from the encoder's last level, and no gradient goes there.

    A branch that pools the image to one voxel (DeepLab's) is lost for itself alone: that is none of this.
    """
    encoder = getattr(module, "encoder", None)
    if encoder is None or config.network.options().get("norm") != "instance":
        return
    with torch.no_grad():
        coarsest = encoder(images)[-1]
    if math.prod(coarsest.shape[2:]) == 1:
        size = " x ".join(map(str, images.shape[2:]))
        what = f"of {size} the encoder's last map is one voxel, which instance norm makes 0: its weights learn nothing"
        raise ConfigError(Problem("training.patch_size", what, "make it larger, or take network.norm=group"))
