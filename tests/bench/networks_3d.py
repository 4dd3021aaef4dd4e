"""Every network of the zoo in 3D on the same recipe: the table of docs/benchmarks.md.

    python tests/bench/networks_3d.py [--minutes 5] [--networks unet fpn ...] [--data DIR] [--folder DIR]

Trains configs/hippocampus.yaml on MSD Task04 (by default where the tests look for it, MEDSEG_TEST_DATA) with one
network after the other, each in a process of its own, and prints the mean Dice on the held-out cases, the median time
of a step, parameters, and the peak memory of the process. `SETTINGS` are widths and strides that fit a small machine
and small volumes: at full width and a stride of 32, a network as published sees one voxel of 32x48x32.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS_PER_EPOCH = 42  # every training case once in batches of four

RESNET = {"encoder": "resnet18", "norm": "instance", "encoder_options": {"width": 0.25, "strides": [1, 2, 2, 2, 2]}}
VGG = {"norm": "instance", "fc_channels": 128, "encoder_options": {"width": 0.25, "strides": [1, 2, 2, 2, 1]}}
SETTINGS: dict[str, dict] = {
    "unet": {"widths": [16, 32, 64, 128]},
    "fpn": {**RESNET, "pyramid_channels": 64, "segmentation_channels": 32, "segmentation_norm": "instance"},
    "deeplabv3plus": {**RESNET, "width": 64},
    "hrnet": {
        "norm": "instance",
        "encoder": "hrnet_w18s",
        "encoder_options": {"width": 12, "strides": [1, 2, 2, 2, 2]},
    },
    "efficientfcn": {**RESNET, "width": 64, "wide": 128, "codewords": 64},
    "encnet": {**RESNET, "channels": 64},
    "pspnet": {**RESNET, "width": 64},
    "deeplabv3": {**RESNET, "width": 64},
    "deeplabv2": RESNET,
    "fcn": RESNET,
    "deeplabv1": VGG,
    "deeplabv1_msc": {**VGG, "branch_width": 16},
    "fcn8s": VGG,
    "fcn16s": VGG,
    "fcn32s": VGG,
}


def main() -> None:
    """Train every network asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--networks", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    default = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data")) / "Task04_Hippocampus"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "networks_3d")
    options = parser.parse_args()
    if not (options.data / "dataset.json").exists():
        print(f"{options.data} is not MSD Task04_Hippocampus: give --data DIR", file=sys.stderr)
        raise SystemExit(2)
    rows = []
    for name in options.networks:
        rows.append(measure(name, options))
        print("\n| network | mean Dice | steps | seconds a step | parameters | peak memory | the same as options |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(rows), flush=True)


def measure(name: str, options: argparse.Namespace) -> str:
    """One row: train, evaluate, read the metrics."""
    run = options.folder / name
    overrides = {
        "data.root": options.data.resolve(),
        "data.cache": options.folder.resolve() / "cache",
        "training.max_minutes": options.minutes,
        "training.iterations_per_epoch": STEPS_PER_EPOCH,
        "training.validation_interval": 100,  # only the last epoch: the minutes are for training
        "network.name": name,
        "network.widths": None,
        "network.deep_supervision": True if name == "unet" else None,
        **{f"network.{key}": value for key, value in SETTINGS[name].items()},
    }
    command = [sys.executable, "-m", "medseg", "train", "--config", "hippocampus", "--run", str(run), "--restart"]
    for key, value in overrides.items():
        command += ["--set", f"{key}={value if isinstance(value, Path) else json.dumps(value)}"]
    print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
    run.parent.mkdir(parents=True, exist_ok=True)
    with open(options.folder / f"{name}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        return f"| `{name}` | failed: see {options.folder / name}.log |"
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    minutes = [float(row["minutes"]) for row in csv.DictReader((run / "history.csv").open())]
    # The budget ends the last epoch early, and the first one has the start of everything in it.
    epochs = [60 * (b - a) / STEPS_PER_EPOCH for a, b in itertools.pairwise(minutes[:-1])]
    step = statistics.median(epochs) if epochs else 60 * minutes[-1] / STEPS_PER_EPOCH
    said = json.dumps(SETTINGS[name]).replace('"', "")
    return (
        f"| `{name}` | {metrics['mean_dice']:.4f} | {round(60 * options.minutes / step)} | {step:.2f} | "
        f"{parameters(run):,} | {usage.ru_maxrss / 2**20:.1f} GiB | {said} |"
    )


def parameters(run: Path) -> int:
    """Parameters of the run's model, from its weights."""
    import torch

    weights = torch.load(run / "models" / "model.pt", map_location="cpu", weights_only=True)
    return sum(value.numel() for key, value in weights.items() if "running_" not in key and "num_batches" not in key)


if __name__ == "__main__":
    main()
