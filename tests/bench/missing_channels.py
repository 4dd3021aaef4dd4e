"""One network for any subset of four channels against a network for each subset alone, on phantoms.

    python tests/bench/missing_channels.py [--steps 600] [--times 3] [--seeds 0 1 2] [--subsets FLAIR T1gd+T2w ...]
                                           [--probability 0.5] [--cases 24] [--folder DIR] [--set KEY=VALUE ...]

For each seed, a cohort of synthetic heads is written, one file a channel. A network with `training.channel_dropout` is
trained for `times` the steps of each of the others, and scored on the held-out cases with every subset of their
channels; for every subset another one is trained on those alone. What counts is the largest loss over all subsets of
the mean over the seeds. With every subset that is 15 trainings a seed beside the one.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np

from medseg.config.load import load_config
from medseg.data.phantom import CLASSES, MODALITIES, REGION_VALUES, REGIONS, write_phantom
from medseg.workflows.evaluate import evaluate
from medseg.workflows.train import train

ROOT = Path(__file__).resolve().parents[2]
EVERY = ["+".join(some) for count in range(1, 5) for some in combinations(MODALITIES, count)]
LOSS = 0.02


def main() -> None:
    """Train and score everything that is not there yet, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--subsets", nargs="+", default=EVERY, choices=EVERY, metavar="CHANNEL[+CHANNEL...]")
    parser.add_argument("--probability", type=float, default=0.5)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "bench" / "missing_channels")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    options = parser.parse_args()
    started = time.perf_counter()
    found = np.array([measure(seed, options) for seed in options.seeds])  # (seeds, subsets, [any, alone])
    print(f"\n| channels | one network for any, {options.times:g} x the steps | for these alone | difference |")
    print("|---|---|---|---|")
    mean = found.mean(0)
    for name, (whole, alone) in zip(options.subsets, mean, strict=True):
        print(f"| {name} | {whole:.4f} | {alone:.4f} | {whole - alone:+.4f} |")
    worst = float((mean[:, 0] - mean[:, 1]).min())
    print(
        f"largest loss {-worst:.4f} ({LOSS} is allowed), {len(options.subsets)} of {len(EVERY)} subsets, "
        f"{len(options.seeds)} seed(s), {options.steps} steps, {(time.perf_counter() - started) / 60:.1f} minutes"
    )
    raise SystemExit(int(-worst > LOSS))


def measure(seed: int, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Mean Dice of the network for any channels and of the one for these alone, for each subset."""
    folder = options.folder / f"seed_{seed}"
    files = write_channels(folder / "data", options.cases, seed)
    overrides = [*options.overrides, f"seed={seed}"]
    steps = round(options.steps * options.times)
    dropout = f"training.channel_dropout={options.probability}"
    run = folder / f"any_{options.probability:g}_{steps}"
    trained(run, write_list(folder / "all.csv", files, MODALITIES), steps, [*overrides, dropout])
    held_out = set(json.loads((run / "split.json").read_text())["validation"])
    results = []
    for name in options.subsets:
        channels = name.split("+")
        lacking = write_list(folder / f"held_out_{name}.csv", files, channels, held_out)
        whole = evaluate(run, data=lacking, output=run / f"eval_{name}")["mean_dice"]
        listed = write_list(folder / f"{name}.csv", files, channels)
        alone = trained(folder / f"{name}_{options.steps}", listed, options.steps, overrides)
        print(f"seed {seed}, {name}: {whole:.4f} against {alone:.4f}", flush=True)
        results.append((whole, alone))
    return results


def trained(run: Path, data: Path, steps: int, overrides: Sequence[str]) -> float:
    """Mean Dice of the held-out cases after a training of so many steps, unless there is one already."""
    metrics = run / "eval" / "metrics.json"
    if not metrics.exists():
        labels = {"classes": CLASSES, "regions": {k: list(v) for k, v in REGIONS.items()}}
        labels |= {"region_values": list(REGION_VALUES)}
        budget = {"max_minutes": None, "max_iterations": steps, "validation_interval": 1_000_000}
        settings = [f"data.{key}={json.dumps(value)}" for key, value in labels.items()]
        settings += [f"training.{key}={json.dumps(value)}" for key, value in budget.items()]
        settings += ["data.card=null", f"data.root={json.dumps(str(data))}", "data.validation=0.25", *overrides]
        train(load_config("demo", settings), run=run)
    return float(json.loads(metrics.read_text())["mean_dice"])


def write_channels(folder: Path, cases: int, seed: int) -> dict[str, dict[str, Path]]:
    """Case -> channel, or `label`, -> its file, of a synthetic cohort."""
    if not (folder / "dataset.json").exists():
        write_phantom(folder, cases=cases, unlabelled=0, seed=seed)
    files: dict[str, dict[str, Path]] = {}
    for file in sorted((folder / "imagesTr").iterdir()):
        name = file.name.removesuffix(".nii.gz")
        image, files[name] = nib.load(file), {"label": folder / "labelsTr" / file.name}
        for number, channel in enumerate(MODALITIES):
            path = files[name][channel] = folder / "channels" / f"{name}_{channel}.nii.gz"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., number], image.affine), path)
    return files


def write_list(
    path: Path, files: dict[str, dict[str, Path]], channels: Sequence[str], names: set[str] | None = None
) -> Path:
    """A data set of these cases (default: all) with these channels."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", *(f"image_{channel}" for channel in channels), "label"])
        for name, own in files.items():
            if names is None or name in names:
                writer.writerow([name, *(own[channel] for channel in channels), own["label"]])
    return path


if __name__ == "__main__":
    main()
