"""Training speed of the 3D U-Net on a GPU, data loading included and excluded, as a table for docs/benchmarks.md.

    make gpu-check                           on a bare GPU machine, after its marked tests
    python tests/bench/gpu.py --tiny         the same code on a CPU, in seconds: to try the script, not to measure

For each patch size: samples a second of a training step on one batch that stays on the device, and on patches of
synthetic volumes with loading and augmentation; and the share of the chip's dense bf16 peak that the former is.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

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
    options = arguments.parse_args()
    device = choose_device()
    if device.type != "cuda" and not options.tiny:
        raise SystemExit("no GPU here; --tiny tries the script on the CPU")
    prepare(0)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"\n{name}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    print("| 3D U-Net | batch | precision | samples/s, step alone | of bf16 peak | samples/s, data included |")
    print("|---|---|---|---|---|---|")
    for setting in TINY if options.tiny else SETTINGS:
        print(measure(setting, device, name, options.steps, 0 if options.tiny else options.workers))


def measure(setting: Setting, device: torch.device, name: str, steps: int, workers: int) -> str:
    """One row of the table."""
    network = build_network(
        "unet", spatial_dims=3, in_channels=setting.channels, out_channels=3, widths=list(setting.widths)
    )
    gmac = count_gmac(network, torch.zeros(1, setting.channels, *setting.patch))
    network = place(network, device, 3).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    loss_function, encode = DeepSupervision(DiceCrossEntropy()), LabelEncoder(LABELS)
    precision = choose_precision("auto", device)
    transforms = AugmentationConfig().transforms.items()
    augment = Augment(0, {name: TRANSFORMS[name].builder()(**options) for name, options in transforms})

    def step(batch: dict) -> None:
        optimizer.zero_grad(set_to_none=True)
        image = batch["image"].contiguous(memory_format=memory_format(3))
        with autocast(device, precision):
            logits = network(image)
        loss_function(logits, encode(batch["label"])).backward()
        optimizer.step()

    samples = (steps + 5) * setting.batch
    patches = PatchDataset(Volumes(setting), setting.patch, LABELS.targets, 0.33, samples, seed=0)
    loader = DataLoader(
        patches,
        setting.batch,
        sampler=SampleSequence(samples, setting.batch),
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )

    fixed = to_device(next(iter(loader)), device)
    alone = rate(setting.batch, ((lambda: step(fixed)) for _ in range(steps + 5)))
    included = rate(setting.batch, ((lambda b=batch: step(augment(to_device(b, device)))) for batch in loader))
    peak = next((flops for chip, flops in PEAKS.items() if chip in name), None)
    share = f"{alone * 3 * 2 * gmac * 1e9 / peak:.1%}" if peak else "unknown"
    kind = str(precision).removeprefix("torch.")
    return f"| {setting.name} | {setting.batch} | {kind} | {alone:.1f} | {share} | {included:.1f} |"


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
