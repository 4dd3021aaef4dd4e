"""`medseg train --dry-run`: what a training would do, after one real step on random voxels; nothing is written."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
from monai.bundle import ConfigParser

from medseg.bundle.compile import compile_training
from medseg.bundle.facts import describe_data
from medseg.config.errors import unwrapped
from medseg.config.schema import Config
from medseg.data.cases import load_cases
from medseg.engine.device import autocast, choose_precision, memory_format
from medseg.networks.summary import count_gmac, count_parameters


def rehearse(config: Config) -> None:
    """Print cases, channels, targets, network and the cost of one training step of the config.

    Args:
        config: the experiment, `data.root` given.
    """
    data, training, facts = config.data, config.training, describe_data(config)
    listed: dict[str, Any] = {"layout": data.layout, "validation": data.validation, "seed": config.seed}
    cases = {section: len(load_cases(str(data.root), section, **listed)) for section in ("training", "validation")}
    parser = ConfigParser(compile_training(config, facts=facts, bundle_root="."))
    with unwrapped():
        network, loss, encode, device = map(
            parser.get_parsed_content, ("network", "loss", "train#trainer#encode", "device")
        )
    precision = choose_precision(training.precision, device)

    shape = (training.batch_size, len(facts.channels), *training.patch_size)
    image = torch.randn(shape, device=device).contiguous(memory_format=memory_format(config.network.spatial_dims))
    label = torch.zeros(shape[0], 1, *shape[2:], dtype=torch.uint8, device=device)

    def step() -> float:
        started = time.perf_counter()
        with autocast(device, precision):
            logits = network(image)
        loss(logits, encode(label)).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    step()  # the first one allocates and picks algorithms
    seconds = step()
    if device.type == "cuda":
        memory_gib = torch.cuda.max_memory_allocated() / 2**30
    else:
        memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB
    print(
        f"""\
data         {data.root}: {cases["training"]} cases to train on, {cases["validation"]} held out
channels     {", ".join(facts.channels)}
targets      {", ".join(facts.labels.targets)}
network      {config.network.name} {config.network.spatial_dims}D, {count_parameters(network) / 1e6:.2f} M parameters
one step     {seconds:.2f} s for {training.batch_size} x {" x ".join(map(str, training.patch_size))}, \
{count_gmac(network, image[:1]):.1f} GMAC a patch, {str(precision).removeprefix("torch.")} on {device}
peak memory  {memory_gib:.1f} GiB
budget       {_budget(config, seconds)}"""
    )


def _budget(config: Config, seconds: float) -> str:
    if config.training.max_minutes is not None:
        steps = int(config.training.max_minutes * 60 / seconds)
        return f"{config.training.max_minutes:g} minutes, about {steps} steps"
    return f"{config.training.max_epochs} epochs"
