"""Mean Dice on unseen hippocampi after a budget of minutes: the figures of docs/benchmarks.md.

    python tests/bench/hippocampus.py [--minutes 3 10 30] [--data DIR] [--folder DIR] [--set KEY=VALUE ...]

Trains configs/hippocampus.yaml with `medseg train`, once for each budget, on four fifths of the cases of MSD Task04 (by
default where the tests look for it, MEDSEG_TEST_DATA). Each is a process of its own; the whole of it is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Train with every budget, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 10.0, 30.0])
    default = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data")) / "Task04_Hippocampus"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "bench")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    options = parser.parse_args()
    if not (options.data / "dataset.json").exists():
        print(f"{options.data} is not MSD Task04_Hippocampus: give --data DIR", file=sys.stderr)
        raise SystemExit(2)
    rows = [measure(minutes, options) for minutes in options.minutes]
    print("\n| minutes | epochs | anterior | posterior | mean Dice | validation | scoring | whole command, minutes |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


def measure(minutes: float, options: argparse.Namespace) -> str:
    """One row: train, evaluate, read the metrics."""
    run = options.folder / f"hippocampus_{minutes:g}"
    overrides = [f"data.root={options.data.resolve()}", f"training.max_minutes={minutes}", *options.overrides]
    command = [sys.executable, "-m", "medseg", "train", "--config", "hippocampus", "--run", str(run), "--restart"]
    started = time.perf_counter()
    subprocess.run([*command, *(word for override in overrides for word in ("--set", override))], check=True)
    whole = (time.perf_counter() - started) / 60
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    anterior, posterior = (metrics["targets"][name]["dice"] for name in ("anterior", "posterior"))
    epochs = len((run / "history.csv").read_text().splitlines()) - 1
    dice = f"{anterior:.4f} | {posterior:.4f} | {metrics['mean_dice']:.4f}"
    shares = json.loads((run / "time.json").read_text())["shares"]
    spent = " | ".join(f"{100 * shares[name]:.1f} %" for name in ("validation", "scoring"))
    return f"| {minutes:g} | {epochs} | {dice} | {spent} | {whole:.1f} |"


if __name__ == "__main__":
    main()
