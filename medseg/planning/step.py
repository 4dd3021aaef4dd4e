"""Some real training steps of a config on made-up cases: what they take of time and of memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from medseg.bundle.compile import compile_training
from medseg.bundle.facts import DataFacts, network_channels
from medseg.bundle.foresight import check_step
from medseg.bundle.run import parser_of
from medseg.config.schema import Config
from medseg.core.foreign import unwrapped
from medseg.data.training.cache import Entry
from medseg.engine.device import leave_cores_to_torch, set_up
from medseg.engine.memory import enough_memory, peak_memory_mib
from medseg.engine.trainer import SMALLER_STEPS
from medseg.inference.colour import COLOUR_SCALES
from medseg.networks.analysis.summary import count_gmac, count_parameters

SLICES = 8  # of a made-up volume for a network of two dimensions
LEAST_STEPS, MOST_STEPS, ENOUGH_SECONDS = 3, 12, 4.0  # that are timed, after one that is not


@dataclass(frozen=True)
class Step:
    """Costs of a step.

    Args:
        seconds: from one step to the next: reading, augmentation, both passes and the optimizer; the median of a few.
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
    """What the trainer of the config takes for a step; the first, which allocates and picks algorithms, is left out.

    Args:
        count: count the multiply-accumulates too (one more forward pass).

    Raises:
        ConfigError: the step cannot be done.
        OutOfMemory: it does not fit the memory.
    """
    with enough_memory(SMALLER_STEPS):
        return _measured(config, facts, count)


def _measured(config: Config, facts: DataFacts, count: bool) -> Step:
    training = config.training
    check_step(config, facts)
    set_up(training.deterministic)
    leave_cores_to_torch()
    budget = {"max_iterations": 1 + MOST_STEPS, "max_minutes": None, "iterations_per_epoch": 1 + MOST_STEPS}
    budget |= {"workers": 0, "compile": False, "start": None}
    full = {"patch_growth": 0.0}  # the full patch is what has to fit
    changed = {
        "loss": config.loss.unweighted(),  # counting would read every label
        "training": training.model_copy(update=budget | full),
        "data": config.data.model_copy(update={"fold": None, "validation": 0.0}),
    }
    content = compile_training(config.model_copy(update=changed), facts=facts, bundle_root=".")
    content["train"] |= {"cases": MadeUpCases(config, facts), "handlers": ()}
    parser = parser_of(content)
    with unwrapped():
        network, trainer = map(parser.get_parsed_content, ("network", "train#trainer"))
    device: torch.device = trainer.state.device
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}
    largest: dict[int, int] = {}
    ends: list[float] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def begin(engine: Engine) -> None:
        kept.clear()

    def end(engine: Engine) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()
        if sum(kept.values()) > sum(largest.values()):
            largest.clear()
            largest.update(kept)
        ends.append(time.perf_counter())
        if len(ends) == 1 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if len(ends) > LEAST_STEPS and ends[-1] - ends[0] > ENOUGH_SECONDS:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_STARTED, begin)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, end)
    with unwrapped(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer.run()
    seconds = statistics.median(np.diff(ends).tolist())
    parameters = count_parameters(network)
    peak = peak_memory_mib().get("gpu" if device.type == "cuda" else "process", 0.0) * 2**20
    used = peak - 8 * parameters if device.type == "cuda" else sum(largest.values()) + 2 * max(largest.values())
    shape = (1, network_channels(config, facts), *training.patch_size)
    gmac = count_gmac(network, torch.zeros(shape, device=device)) if count else 0.0
    name = str(trainer.precision).removeprefix("torch.")
    return Step(seconds, used / 2**30, peak / 2**30, parameters, gmac, name, str(device))


class MadeUpCases:
    """Cases in memory as `CachedDataset` gives them: noise, and a box of each label value in the middle.

    Each is somewhat larger than a patch, as most are, so that a patch is cut out and not padded.
    """

    data: Sequence[Any] = ()

    def __init__(self, config: Config, facts: DataFacts) -> None:
        shape = [size + size // 2 for size in config.training.patch_size]
        if config.data.context is not None:
            shape = [SLICES, *shape]
        random = torch.Generator().manual_seed(0)
        self.image = torch.randn(len(facts.channels), *shape, generator=random)
        if config.preprocessing.colours in COLOUR_SCALES:
            self.image = self.image.mul_(50).add_(127).clamp_(0, 255).to(torch.uint8)
        self.label = torch.zeros(1, *shape, dtype=torch.uint8)
        self.voxels = {}
        for number, value in enumerate(value for value in facts.labels.classes.values() if value != 0):
            box = self.label[0]
            for axis, size in enumerate(shape):
                box = box.narrow(axis, size // 3 + number % 3 if size > 8 else 0, max(1, size // 3))
            box.fill_(value)
        for value in self.label.unique().tolist():
            where = (self.label.flatten() == value).nonzero()[:, 0].int()
            self.voxels[value] = (len(where), where)

    def __len__(self) -> int:
        return 1

    def entry(self, index: int) -> Entry:
        """As `CachedDataset.entry`."""
        affine = torch.eye(4, dtype=torch.float64)
        return Entry("made up", self.image, self.label, affine, affine, tuple(self.image.shape[1:]), self.voxels)
