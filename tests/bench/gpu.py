"""Training speed of the 3D U-Net on a GPU, data loading included and excluded, as tables for docs/benchmarks.md.

    make gpu-check                           on a bare GPU machine, after its marked tests
    python tests/bench/gpu.py --tiny         the same code on a CPU, in seconds: to try the script, not to measure

For each patch size, and for the network as it is, compiled, and compiled with CUDA graphs (`reduce-overhead`): samples
a second of a training step on one batch that stays on the device, and on patches of synthetic volumes with loading and
augmentation; the share of the chip's dense bf16 peak that the former is; and the seconds of the first step, in which it
is compiled. Then AdamW's step alone: fused, as medseg takes it, beside PyTorch's two others.

A row is printed as soon as it is measured, and none is begun after `--seconds`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader

from medseg.config.schema import AugmentationConfig
from medseg.core.labels import Labels
from medseg.data.training.augment import TRANSFORMS
from medseg.data.training.augment.pipeline import Augment
from medseg.data.training.encode import LabelEncoder
from medseg.data.training.patches import PatchDataset, SampleSequence
from medseg.engine.device import autocast, choose_device, choose_precision, memory_format, place, prepare, to_device
from medseg.losses.deep_supervision import DeepSupervision
from medseg.losses.dice_ce import DiceCrossEntropy
from medseg.networks import build_network
from medseg.networks.analysis.summary import count_gmac

# Dense bf16 FLOP/s by the vendors' datasheets; of other chips no share is printed.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
LABELS = Labels(classes={"background": 0, "one": 1, "two": 2})


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    name: str
    patch: tuple[int, int, int]
    batch: int
    widths: tuple[int, ...]
    channels: int


SETTINGS = (
    Setting("128^3, 4 channels", (128, 128, 128), 2, (32, 64, 128, 256, 320, 320), 4),
    Setting("40x56x40, 1 channel", (40, 56, 40), 64, (32, 64, 128, 256), 1),
)
STEPS = (
    "| 3D U-Net | batch | precision | network | first step | samples/s, step alone | of bf16 peak "
    "| samples/s, data included |"
)
OPTIMIZERS = "| AdamW | parameters | fused | foreach | one by one |"
FORMS = ("as it is", "compiled", "CUDA graphs")
TINY = (Setting("16^3, 1 channel", (16, 16, 16), 2, (4, 8), 1),)


@dataclass
class Entry:
    """A volume as `data.cache` gives it, without a file."""

    case: str
    image: torch.Tensor
    label: torch.Tensor
    voxels: dict[int, tuple[int, torch.Tensor]]


class Volumes:
    """Synthetic cached cases, held in memory."""

    def __init__(self, setting: Setting, count: int = 4) -> None:
        shape = tuple(side + side // 4 for side in setting.patch)
        random = np.random.default_rng(0)
        self.data = [{"case": str(number)} for number in range(count)]
        self.entries = []
        for number in range(count):
            label = torch.from_numpy(random.integers(0, 3, (1, *shape)).astype(np.uint8))
            image = torch.from_numpy(random.normal(size=(setting.channels, *shape)).astype(np.float32))
            where = torch.arange(1000, dtype=torch.int32)
            self.entries.append(Entry(str(number), image, label, {1: (1000, where), 2: (1000, where)}))

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, index: int) -> Entry:
        return self.entries[index]


def main() -> None:
    """Measure and print every setting."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tiny", action="store_true", help="a small setting, to try the script on a CPU")
    arguments.add_argument("--steps", type=int, default=30)
    arguments.add_argument("--workers", type=int, default=12)
    arguments.add_argument("--seconds", type=float, default=400, help="no row is begun later")
    options = arguments.parse_args()
    begun = time.perf_counter()
    device = choose_device()
    if device.type != "cuda" and not options.tiny:
        raise SystemExit("no GPU here; --tiny tries the script on the CPU")
    prepare(0)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"\n{name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    settings, workers = (TINY, 0) if options.tiny else (SETTINGS, options.workers)
    steps = [Training(setting, device, form) for setting in settings for form in FORMS]
    tables = {
        STEPS: [partial(step.row, name, options.steps, workers) for step in steps],
        OPTIMIZERS: [partial(optimizers, setting, device, options.steps) for setting in settings],
    }
    for head, rows in tables.items():
        print(f"\n{head}\n{'|---' * (head.count('|') - 1)}|", flush=True)
        for row in rows:
            if time.perf_counter() - begun > options.seconds:
                print(f"the rest was not measured: {options.seconds:g} seconds are over")
                return
            print(row(), flush=True)


class Training:
    """One row of the table: a network, and how it is called.

    Args:
        form: one of `FORMS`.
    """

    def __init__(self, setting: Setting, device: torch.device, form: str) -> None:
        self.setting, self.device, self.form = setting, device, form
        self.precision = choose_precision("auto", device)

    def row(self, name: str, steps: int, workers: int) -> str:
        """Measured on a chip of that name."""
        setting, device = self.setting, self.device
        torch.compiler.reset()
        network = made(setting)
        gmac = count_gmac(network, torch.zeros(1, setting.channels, *setting.patch))
        self.network = place(network, device, 3).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-3, fused=True)
        self.loss, self.encode = DeepSupervision(DiceCrossEntropy()), LabelEncoder(LABELS)
        self.forward = called(self.network, self.form, device)
        transforms = AugmentationConfig().transforms.items()
        augment = Augment(0, {name: TRANSFORMS[name].builder()(**options) for name, options in transforms})
        samples = (steps + 5) * setting.batch
        loader = DataLoader(
            PatchDataset(Volumes(setting), setting.patch, LABELS.targets, 0.33, samples, seed=0),
            setting.batch,
            sampler=SampleSequence(samples, setting.batch),
            num_workers=workers,
            pin_memory=device.type == "cuda",
        )

        fixed = to_device(next(iter(loader)), device)
        synchronize()
        started = time.perf_counter()
        self.step(fixed)
        synchronize()
        first = time.perf_counter() - started
        alone = rate(setting.batch, ((lambda: self.step(fixed)) for _ in range(steps + 5)))
        included = rate(setting.batch, ((lambda b=batch: self.step(augment(to_device(b, device)))) for batch in loader))
        peak = next((flops for chip, flops in PEAKS.items() if chip in name), None)
        share = f"{alone * 3 * 2 * gmac * 1e9 / peak:.1%}" if peak else "unknown"
        kind = str(self.precision).removeprefix("torch.")
        return (
            f"| {setting.name} | {setting.batch} | {kind} | {self.form} | {first:.1f} s "
            f"| {alone:.1f} | {share} | {included:.1f} |"
        )

    def step(self, batch: dict) -> None:
        """Forward, loss with deep supervision, backward, AdamW."""
        torch.compiler.cudagraph_mark_step_begin()  # what the last step's graphs gave may be written over
        self.optimizer.zero_grad(set_to_none=True)
        image = batch["image"].contiguous(memory_format=memory_format(3))
        with autocast(self.device, self.precision):
            logits = self.forward(image)
        self.loss(logits, self.encode(batch["label"])).backward()
        self.optimizer.step()


def made(setting: Setting) -> torch.nn.Module:
    """The U-Net of a setting."""
    return build_network(
        "unet", spatial_dims=3, in_channels=setting.channels, out_channels=3, widths=list(setting.widths)
    )


def called(network: torch.nn.Module, form: str, device: torch.device) -> Callable:
    """The network in one of `FORMS`; on a CPU, where only the script is tried, nothing is generated."""
    if form == "as it is":
        return network
    if device.type != "cuda":
        return torch.compile(network, backend="aot_eager")
    return torch.compile(network, mode="reduce-overhead") if form == "CUDA graphs" else torch.compile(network)


def optimizers(setting: Setting, device: torch.device, steps: int) -> str:
    """A row of the second table: milliseconds of a step of AdamW."""
    network = place(made(setting), device, 3)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    times = []
    for kind in ({"fused": True}, {"foreach": True}, {"foreach": False}):
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, **kind)
        times.append(f"{1e3 / rate(1, (optimizer.step for _ in range(steps + 5))):.2f} ms")
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    return f"| {setting.name} | {count:.1f} million | {' | '.join(times)} |"


def rate(batch: int, steps) -> float:
    """Samples a second after five steps of warm-up."""
    count = 0
    started = time.perf_counter()
    for number, call in enumerate(steps):
        call()
        if number == 4:
            synchronize()
            started = time.perf_counter()
        elif number > 4:
            count += batch
    synchronize()
    return count / (time.perf_counter() - started)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
