"""One real training step of a config on random voxels: what it takes of time and of memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from medseg.bundle.compile import compile_training
from medseg.bundle.facts import DataFacts, network_channels
from medseg.bundle.run import parser_of
from medseg.config.schema import Config
from medseg.core.errors import unwrapped
from medseg.engine.device import autocast, choose_precision, memory_format
from medseg.engine.memory import enough_memory, peak_memory_mib
from medseg.engine.trainer import SMALLER_STEPS
from medseg.networks.analysis.summary import count_gmac, count_parameters


@dataclass(frozen=True)
class Step:
    """Costs of a step.

    Args:
        kept_gib: what the step keeps for the backward pass, and its two largest maps once more; on a CPU counted map
            by map, so that it is the same every time; on a GPU the allocator's peak, without weights and gradients.
        peak_gib: the most that was allocated: of the process on a CPU, by PyTorch on a GPU.
        gmac: multiply-accumulates of one forward pass of one patch, in 10^9.
    """

    seconds: float
    kept_gib: float
    peak_gib: float
    parameters: int
    gmac: float
    precision: str
    device: str


def measure_step(config: Config, facts: DataFacts, *, count: bool = True) -> Step:
    """Forward, loss and backward of one batch; the second one is timed, since the first allocates and picks algorithms.

    Args:
        count: count the multiply-accumulates too (one more forward pass).

    Raises:
        OutOfMemory: the step does not fit the GPU.
    """
    with enough_memory(SMALLER_STEPS):
        return _measured(config, facts, count)


def _measured(config: Config, facts: DataFacts, count: bool) -> Step:
    training = config.training
    config = config.model_copy(update={"loss": config.loss.unweighted()})  # counting would read every label
    parser = parser_of(compile_training(config, facts=facts, bundle_root="."))
    with unwrapped():
        network, loss, encode, device = map(
            parser.get_parsed_content, ("network", "loss", "train#trainer#encode", "device")
        )
    precision = choose_precision(training.precision, device)
    shape = (training.batch_size, network_channels(config, facts), *training.patch_size)
    image = torch.randn(shape, device=device).contiguous(memory_format=memory_format(config.network.spatial_dims))
    label = torch.zeros(shape[0], 1, *shape[2:], dtype=torch.uint8, device=device)
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def step() -> float:
        kept.clear()
        started = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            with autocast(device, precision):
                logits = network(image)
            loss(logits, encode(label)).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    network.train()
    step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = step()
    parameters = count_parameters(network)
    peak = peak_memory_mib().get("gpu" if device.type == "cuda" else "process", 0.0) * 2**20
    used = peak - 8 * parameters if device.type == "cuda" else sum(kept.values()) + 2 * max(kept.values(), default=0)
    gmac = count_gmac(network, image[:1]) if count else 0.0
    name = str(precision).removeprefix("torch.")
    return Step(seconds, used / 2**30, peak / 2**30, parameters, gmac, name, str(device))
