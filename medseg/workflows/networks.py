"""`medseg networks`: what each network costs, sees and can be told, computed without running it, or measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from pydantic import SerializeAsAny
from torch import Tensor, nn
from tqdm import tqdm

from medseg.config.document import Document
from medseg.config.network import NetworkConfig
from medseg.config.section import Section
from medseg.config.validate import validated
from medseg.core.errors import ConfigError, MedsegError, Problem, below
from medseg.core.machine import machine_memory
from medseg.core.parts import Part
from medseg.core.spelling import spelled, written
from medseg.engine.device import autocast, choose_device, choose_precision, memory_format, place
from medseg.networks import NETWORKS, build_network
from medseg.networks.analysis.pretended import Pretended
from medseg.networks.analysis.receptive_field import Stage, effective_field, survey
from medseg.networks.analysis.summary import count_activation_bytes, count_gmac, count_parameters
from medseg.networks.pretrained import with_pretrained

SIZES = {2: (512, 512), 3: (96, 96, 96)}
CHANNELS = {2: 3, 3: 1}
CLASSES = {2: 21, 3: 4}  # as the published tables of the networks have them in 2D
MIB = 2**20
# A pass forward and back in float32 takes a little more than what it keeps.
MARGIN = 1.2
RUNS, SECONDS = 5, 20.0  # forward passes that are timed, as long as there is time


class Choice(Section):
    """The part of a config that says which network."""

    network: SerializeAsAny[NetworkConfig]


def networks(
    name: str | None = None,
    *,
    spatial_dims: int = 2,
    size: Sequence[int] | None = None,
    channels: int | None = None,
    classes: int | None = None,
    encoder: str | None = None,
    overrides: Sequence[str] = (),
    measure: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Costs and receptive fields of one network with its stages and keys, or of all: plain data; `as_text` is a table.

    Args:
        size: of the image, one number for all axes or one an axis; default `SIZES`.
        channels: of the image; default `CHANNELS`.
        classes: channels of the logits; default `CLASSES`.
        encoder: the same as the override `network.encoder=...`.
        overrides: keys of a config's `network` section, as after `--set`.
        measure: measure the effective receptive field and the time of a forward pass too, for which the network is
            really built and run.

    Raises:
        ConfigError: an option or size that is impossible; of one network also what keeps it from being built or run.
            In a list of all that is the `problem` of its row.
    """
    shape = _shape(size or SIZES[spatial_dims], spatial_dims)
    device = choose_device()
    result: dict[str, Any] = {
        "spatial_dims": spatial_dims,
        "size": list(shape),
        "channels": channels or CHANNELS[spatial_dims],
        "classes": classes or CLASSES[spatial_dims],
        "device": str(device),
        "precision": str(choose_precision("auto", device)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "networks": [],
    }
    overrides = [*overrides, *([f"network.encoder={encoder}"] if encoder else [])]
    names = sorted(NETWORKS.own) if name is None else [name]
    with tqdm(total=len(names) * (3 if measure else 1), disable=None if progress else True, leave=False) as bar:
        for number, each in enumerate(names, start=1):
            bar.set_description(each)
            try:
                row = _describe(each, result, overrides, measure, tick=bar.update)
            except MedsegError as error:
                if name is not None:
                    raise
                row = {"name": each, "problem": "; ".join(problem.what for problem in error.problems)}
            if name is None:
                row.pop("stages", None)
                row.pop("keys", None)
            result["networks"].append(row)
            bar.update(number * (3 if measure else 1) - bar.n)
    return result


def choose_network(name: str, spatial_dims: int, overrides: Sequence[str]) -> NetworkConfig:
    """The network section of a config that has this name and these overrides, checked as a config is.

    Raises:
        ConfigError: every mistake, with the nearest valid name.
    """
    document = Document("medseg networks", {"network": {"name": name, "spatial_dims": spatial_dims}})
    for assignment in overrides:
        document.override(assignment)
    chosen = validated(Choice, document).network
    if (chosen.name, chosen.spatial_dims) != (name, spatial_dims):
        raise ConfigError("--set changes the network's name or dimensions", "medseg networks NAME --dims 2 or 3")
    return chosen


def _shape(size: Sequence[int], spatial_dims: int) -> tuple[int, ...]:
    shape = tuple(size) * spatial_dims if len(size) == 1 else tuple(size)
    if len(shape) != spatial_dims or min(shape) < 1:
        what = f"{','.join(map(str, size))} is not a size in {spatial_dims}D"
        raise ConfigError(Problem("--size", what, f"one number, or {spatial_dims} of them with commas between"))
    return shape


def _describe(
    name: str, given: dict[str, Any], overrides: Sequence[str], measure: bool, tick: Callable[[int], object]
) -> dict[str, Any]:
    """One network: its row, with `stages`."""
    config = choose_network(name, given["spatial_dims"], overrides)
    options = config.options()
    shape = (1, given["channels"], *given["size"])

    def build() -> nn.Module:
        with below("network"):
            return build_network(name, in_channels=given["channels"], out_channels=given["classes"], **options)

    layout = memory_format(config.spatial_dims)
    try:
        pretended = Pretended.built(build)
        seen = survey(pretended, given["channels"], config.spatial_dims)
        pretended.lay_out(layout)
        with pretended.mode:
            image = torch.empty(shape).contiguous(memory_format=layout)
            gmac = count_gmac(pretended.module, image)
            kept = count_activation_bytes(pretended.module, image)
    except (RuntimeError, ValueError, IndexError) as error:  # what layers raise that do not like their input
        raise ConfigError(Problem(name, f"cannot be run: {_first_line(error)}")) from error
    parameters = count_parameters(pretended.module)
    row: dict[str, Any] = {
        "name": name,
        "options": {key: value for key, value in config.given().items() if key != "spatial_dims"},
        "parameters": parameters,
        "gmac": gmac,
        "output_stride": list(map(_plain, seen.output_stride)),
        **_field(seen.stages[-1]),
        "activation_mib": kept / MIB,
    }
    tick(1)
    if measure:
        row |= _measure(config, build, shape, needed=4 * parameters + MARGIN * kept, tick=tick)
    row["stages"] = [_stage(stage) for stage in seen.stages]
    network, *encoders = config.used
    row["keys"] = _keys(network, "network", {})
    for encoder in encoders:
        row["keys"] += _keys(encoder, "network.encoder_options", getattr(pretended.module, "asked", {}))
    return row


def _keys(part: Part, section: str, defaults: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a config can say of a network or an encoder; `defaults` go before its own."""
    return [
        {
            "key": f"{section}.{name}",
            "of": part.name,
            "type": spelled(option.kind),
            "default": written(defaults.get(name, option.default)),
            "help": option.help,
        }
        for name, option in part.options.items()
    ]


def _field(stage: Stage) -> dict[str, Any]:
    return {"receptive_field": list(stage.field.voxels), "whole_image_by": list(stage.field.whole_image_by)}


def _stage(stage: Stage) -> dict[str, Any]:
    stride = list(map(_plain, stage.stride))
    return {"name": stage.name, "channels": stage.channels, "stride": stride, **_field(stage)}


def _plain(stride: float) -> float:
    return int(stride) if stride == int(stride) else round(stride, 2)


def _measure(
    config: NetworkConfig,
    build: Callable[[], nn.Module],
    shape: Sequence[int],
    *,
    needed: float,
    tick: Callable[[int], object],
) -> dict[str, Any]:
    """Effective field and time of a forward pass of a real network, or why it was not measured."""
    device = choose_device()
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else machine_memory().free or needed
    if needed > free:
        return {"not_measured": f"needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free"}
    torch.manual_seed(0)
    network = build()
    if config.pretrained:
        with below("network"):
            network = with_pretrained(network, config.pretrained, config.inflate)
    network = place(network.eval(), device, config.spatial_dims)
    image = torch.zeros(tuple(shape), device=device).contiguous(memory_format=memory_format(config.spatial_dims))
    try:
        effective = effective_field(network, image)
        tick(1)
        seconds = forward_seconds(network, image, autocast(device, choose_precision("auto", device)))
    except RuntimeError as error:
        return {"not_measured": _first_line(error)}
    return {"effective_field": list(effective) if effective else None, "forward_seconds": seconds}


@torch.no_grad()
def forward_seconds(network: nn.Module, image: Tensor, context: AbstractContextManager) -> float:
    """Median time of a forward pass of `image` inside `context`, after one that is not timed."""
    seconds: list[float] = []
    start = time.perf_counter()
    while len(seconds) <= RUNS and (len(seconds) < 2 or time.perf_counter() - start < SECONDS):
        begin = time.perf_counter()
        with context:
            network(image)
        if image.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
