"""Fine-tuning: what a network that was trained on one half of the hippocampi gains on the other half.

    python tests/bench/finetune.py [--steps 2000] [--seeds 0 1 2] [--cases N] [--data DIR] [--folder DIR]
                                   [--set KEY=VALUE ...]

For each seed, the cases of MSD Task04 (by default where the tests look for it, MEDSEG_TEST_DATA) are divided into
halves. A network is trained on the first half; on the second, of which a fifth is held out, one is trained from the
start for as many steps, and one goes on from the first (`train --from RUN`) for half as many. What counts is that the
last is not worse.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.config.load import load_config
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import read_dataset
from medseg.workflows.train import train

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Train what is not there yet, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", type=int, default=None, help="only so many, of both halves together")
    default = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data")) / "Task04_Hippocampus"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "bench" / "finetune")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    options = parser.parse_args()
    if not (options.data / "dataset.json").exists():
        print(f"{options.data} is not MSD Task04_Hippocampus: give --data DIR", file=sys.stderr)
        raise SystemExit(2)
    started = time.perf_counter()
    found = np.array([measure(seed, options) for seed in options.seeds])
    print("\n| second half | steps | mean Dice |")
    print("|---|---|---|")
    half = options.steps // 2
    for name, steps, dice in zip(
        ("from the start", "from the start", "from the run"), (options.steps, half, half), found.mean(0), strict=True
    ):
        print(f"| {name} | {steps} | {dice:.4f} |")
    print(f"{len(options.seeds)} seed(s), {(time.perf_counter() - started) / 60:.1f} minutes")
    raise SystemExit(int(found.mean(0)[2] < found.mean(0)[0]))


def measure(seed: int, options: argparse.Namespace) -> tuple[float, float, float]:
    """Mean Dice on the held-out cases of the second half: all steps, half of them, half of them from the run."""
    cases = list(read_dataset(options.data).cases)
    random.Random(seed).shuffle(cases)
    cases = cases[: options.cases]
    folder, middle, half = options.folder / f"seed_{seed}", len(cases) // 2, options.steps // 2
    first, second = write_list(folder / "first.csv", cases[:middle]), write_list(folder / "second.csv", cases[middle:])
    overrides = [*options.overrides, f"seed={seed}"]
    origin = folder / f"first_{options.steps}"
    trained(origin, first, options.steps, overrides)
    alone = [trained(folder / f"second_{steps}", second, steps, overrides) for steps in (options.steps, half)]
    tuned = trained(folder / f"tuned_{half}", second, half, [*overrides, f"training.start={json.dumps(str(origin))}"])
    print(f"seed {seed}: {alone[0]:.4f}; after half the steps {alone[1]:.4f}, tuned {tuned:.4f}", flush=True)
    return alone[0], alone[1], tuned


def trained(run: Path, data: Path, steps: int, overrides: Sequence[str]) -> float:
    """Mean Dice of the held-out cases after a training of so many steps, unless there is one already."""
    metrics = run / "eval" / "metrics.json"
    if not metrics.exists():
        settings = [
            f"data.root={json.dumps(str(data))}",
            f"training.max_iterations={steps}",
            "training.max_minutes=null",
        ]
        settings.append("training.validation_interval=1000000")  # the last step's weights
        train(load_config("hippocampus", [*settings, *overrides]), run=run)
    return float(json.loads(metrics.read_text())["mean_dice"])


def write_list(path: Path, cases: Sequence[Case]) -> Path:
    """A data set of these cases."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "label"])
        writer.writerows([case.name, case.first, case.label] for case in cases)
    return path


if __name__ == "__main__":
    main()
