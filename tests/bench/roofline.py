"""What share of the machine's measured convolution peak a training step reaches, by network and level, and why.

    python tests/bench/roofline.py [--config CONFIG ...] [--threads N] [--repeats 5] [--machines auto float32 avx2]
    python tests/bench/roofline.py --sweep [--machines auto avx2] [--shared]

The peak is the best of a sweep of large convolutions in 2D and 3D, forward, in the layout and precision of a training;
the memory's rate that of an addition of large tensors. A step is forward, loss and backward of one batch. Every
operator of it is timed as it is called, and its time is divided by cause:

    arithmetic  multiplications of dense convolutions, at the peak
    memory      what these convolutions take longer, reading and writing each tensor once at the memory's rate
    narrow      what they take beyond both, with fewer than 32 channels on either side
    kernels     what they take beyond both, otherwise
    depthwise   convolutions in groups
    other       norms, activations, copies and casts, up-sampling, loss

The largest bounds a network or level (a stride of its maps). `--machines`: `auto`, the precision that a
training takes here; `float32` here; `avx2`, float32 with no instruction beyond AVX2, as on a machine without AVX-512.
`--config`: networks of planned configs in the place of three examples. `--sweep`: widths, patches and batches of
U-Nets, with the voxels and multiplications a second that each reaches: what is good value on the machine. `--shared`:
processor time in the place of the clock's, for a machine that other work shares.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench_operators import CAUSES, REST, Clock, Cost, Timed, choose_clock, convolution_peak, memory_rate

ROOT = Path(__file__).resolve().parents[2]
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
MACHINES: dict[str, tuple[str, dict[str, str]]] = {
    "auto": ("auto", {}),
    "float32": ("float32", {}),
    "avx2": ("auto", AVX2),
}
SMALL = 0.01  # levels of less than this share of a step are put together


@dataclass(frozen=True)
class Setting:
    """One network and its batch."""

    name: str
    patch: tuple[int, ...]
    batch: int
    channels: int = 1
    classes: int = 2
    network: str = "unet"
    options: dict[str, Any] = field(default_factory=dict)


def unet(widths: list[int], patch: tuple[int, ...], batch: int, **more: Any) -> Setting:
    """An axis is halved while it has four voxels left, as `medseg plan` halves isotropic ones."""
    strides, size = [[1] * len(patch)], list(patch)
    for _ in widths[1:]:
        strides.append([2 if length >= 8 else 1 for length in size])
        size = [-(-length // step) for length, step in zip(size, strides[-1], strict=True)]
    name = f"{len(patch)}D U-Net {'-'.join(map(str, widths))}, {batch} x {_times(patch)}"
    return Setting(name, patch, batch, options={"widths": widths, "strides": strides}, **more)


def on_lite0(size: int, batch: int) -> Setting:
    name = f"2D U-Net on EfficientNet-Lite0, {batch} x 3 x {size}x{size}"
    return Setting(name, (size, size), batch, channels=3, options={"encoder": "efficientnet_lite0"})


def examples() -> Iterator[Setting]:
    """What `medseg plan` proposes for the hippocampus and for LGG, and a network for slices."""
    yield unet([16, 32, 64, 128], (32, 48, 32), 4, classes=3)
    yield unet([16, 32, 64, 128, 160], (128, 128, 20), 1)
    yield on_lite0(256, 8)


def sweep() -> Iterator[Setting]:
    """One thing after the other is changed, for about as many voxels a step."""
    for base in (8, 12, 16, 24, 32, 48):
        yield unet([base, 2 * base, 4 * base, 8 * base], (64, 64, 64), 1)
    for patch, batch in (((32, 32, 32), 8), ((96, 96, 28), 1), ((128, 128, 16), 1), ((256, 256, 4), 1)):
        yield unet([16, 32, 64, 128], patch, batch)
    for base in (16, 32):
        for size, batch in ((128, 16), (256, 4), (512, 1)):
            yield unet([base * 2**level for level in range(5)], (size, size), batch)
    for size, batch in ((128, 32), (192, 14), (256, 8), (256, 2), (384, 4)):
        yield on_lite0(size, batch)


def of_config(file: Path) -> Setting:
    """The network, patch and batch of a planned config."""
    from medseg.bundle.facts import describe_data, network_channels
    from medseg.config.load import load_config

    config = load_config(str(file))
    facts, network, training = describe_data(config), config.network, config.training
    patch = tuple(training.patch_size)
    if len(patch) != network.spatial_dims:
        raise SystemExit(f"{file}: patches of {len(patch)} axes for a network of {network.spatial_dims}: not measured")
    name = f"{config.name}: {network.name}, {training.batch_size} x {_times(patch)}"
    options = {key: value for key, value in network.options().items() if key != "spatial_dims"}
    channels, outputs = network_channels(config, facts), len(facts.labels.channels)
    return Setting(name, patch, training.batch_size, channels, outputs, network.name, options)


def training_step(setting: Setting, precision: torch.dtype, clock: Clock) -> Callable[[], float]:
    """Forward, loss and backward, and the seconds of it."""
    from medseg.engine.device import autocast, memory_format, place
    from medseg.losses.deep_supervision import DeepSupervision
    from medseg.losses.dice_ce import DiceCrossEntropy
    from medseg.networks import build_network

    dims, device = len(setting.patch), torch.device("cpu")
    channels = {"in_channels": setting.channels, "out_channels": setting.classes}
    network = build_network(setting.network, spatial_dims=dims, **channels, **setting.options)
    network = place(network.train(), device, dims)
    loss = DeepSupervision(DiceCrossEntropy())
    image = torch.randn(setting.batch, setting.channels, *setting.patch)
    image = image.contiguous(memory_format=memory_format(dims))
    label = torch.randint(0, setting.classes, (setting.batch, 1, *setting.patch))

    def step() -> float:
        begun = clock()
        with autocast(device, precision):
            logits = network(image)
        loss(logits, label).backward()
        return clock() - begun

    return step


def measure(machine: str, settings: list[Setting], threads: int, repeats: int, shared: bool) -> dict[str, Any]:
    """All figures of one machine, in this process."""
    from medseg.engine.device import choose_precision, prepare

    prepare(0)
    torch.set_num_threads(threads)
    clock = choose_clock(shared)
    precision = choose_precision(MACHINES[machine][0], torch.device("cpu"))
    peak, which = convolution_peak(precision, clock)
    rate = memory_rate(clock)
    rows = []
    for setting in settings:
        print(f"{machine}: {setting.name}", file=sys.stderr, flush=True)
        step = training_step(setting, precision, clock)
        step()  # the first one allocates
        seconds = median(step() for _ in range(repeats))
        with Timed(setting.patch, peak, rate, clock) as timed:
            step()
        levels = {level: asdict(cost) for level, cost in timed.levels.items()}
        voxels = setting.batch * math.prod(setting.patch)
        rows.append({"name": setting.name, "voxels": voxels, "seconds": seconds, "levels": levels})
    isa = "AMX" if torch.cpu._is_amx_tile_supported() else torch.backends.cpu.get_cpu_capability()
    facts = {"isa": isa, "threads": threads, "precision": str(precision).removeprefix("torch.")}
    facts["torch"], facts["clock"] = torch.__version__, "processor time" if shared else "clock"
    return {**facts, "peak": peak, "peak_of": which, "rate": rate, "rows": rows}


def text(machine: str, found: dict[str, Any], by_level: bool) -> str:
    """The table of one machine, in Markdown; a network's share of the peak is of its step without the timers."""
    kind = f"CPU with {found['isa']}, {found['threads']} threads, torch {found['torch']}, {found['precision']}"
    peak = found["peak"]
    lines = [
        f"\n{machine}: {kind}, {found['clock']}; peak {peak / 1e9:.0f} GFLOP/s ({found['peak_of']}), "
        f"memory {found['rate'] / 1e9:.1f} GB/s\n",
        f"| network, level | s a step | Mvoxel/s | GFLOP | of the peak | {' | '.join(CAUSES)} | bound by |",
        "|---" * (6 + len(CAUSES)) + "|",
    ]
    for row in found["rows"]:
        whole, levels = Cost(), {level: Cost(**cost) for level, cost in row["levels"].items()}
        for cost in levels.values():
            whole.add(cost.seconds, cost.flop)
        rate = f"{row['voxels'] / row['seconds'] / 1e6:.2f}"
        lines.append(_line(row["name"], whole, row["seconds"], rate, peak))
        if by_level:
            shown = _large(levels, whole.total)
            lines += [_line(f"stride {level}", cost, cost.total, "", peak) for level, cost in shown.items()]
    return "\n".join(lines)


def _large(levels: dict[str, Cost], total: float) -> dict[str, Cost]:
    """Those of some share of the whole that hold convolutions, the finest first; the others together."""
    rest, shown = Cost(), {}
    for level, cost in levels.items():
        convolved = cost.flop or cost.seconds["depthwise"]
        if level == REST or not convolved or cost.total < SMALL * total:
            rest.add(cost.seconds, cost.flop)
        else:
            shown[level] = cost
    order = sorted(shown, key=lambda level: math.prod(map(int, level.split("x"))))
    return {level: shown[level] for level in order} | {REST: rest}


def _line(name: str, cost: Cost, seconds: float, rate: str, peak: float) -> str:
    parts = {cause: cost.seconds[cause] / cost.total for cause in CAUSES}
    figures = f"{seconds:.3f} | {rate} | {cost.flop / 1e9:.1f} | {cost.flop / peak / seconds:.0%}"
    shares = " | ".join(f"{part:.0%}" for part in parts.values())
    return f"| {name} | {figures} | {shares} | {max(parts, key=lambda cause: parts[cause])} |"


def _times(numbers: tuple[int, ...]) -> str:
    return "x".join(map(str, numbers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, nargs="+", default=[])
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=list(MACHINES))
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--measure", choices=MACHINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        settings = list(sweep()) if options.sweep else [*map(of_config, options.config)] or list(examples())
        found = measure(options.measure, settings, options.threads, options.repeats, options.shared)
        print(json.dumps(found))
        return 0
    for machine in options.machines:  # a process each: which instructions are used is decided as it starts
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", machine]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **MACHINES[machine][1]}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, text=True)
        print(text(machine, json.loads(done.stdout.splitlines()[-1]), by_level=not options.sweep), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
