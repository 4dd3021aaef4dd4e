"""What is to be found out on a GPU machine, in one go, the most wanted first: the trainings, the tests, the speed.

    make gpu-check                                          on a bare GPU machine: less than ten minutes
    python tests/bench/gpu_check.py --parts folds --data ../shared/data/Task04_Hippocampus          another eight
    python tests/bench/gpu_check.py --tiny                  the same on a CPU, to try it: the tests are skipped

Each part is a process of its own; one that fails, or is not through in its time, stops no other. The table at the end
says what came of them, and the exit code is 0 where all of them are good.

- trainings: `medseg train` and `predict` as they are, compiled, and deterministic (`tests/engine/test_gpu.py`).
- tests: all others that need a GPU.
- speed: `tests/bench/gpu.py`: compiled, CUDA graphs, the fused optimiser.
- folds: `medseg plan --minutes 5` and its five folds of the hippocampus, side by side on the one GPU; their mean Dice.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Without the options of pyproject.toml, which are strict about keys of plugins: a bare machine has none of these.
OPTIONS = ["-o", "addopts=--import-mode=importlib -ra", "-p", "no:cacheprovider"]
PYTEST = [sys.executable, "-m", "pytest", *OPTIONS, "-m", "gpu"]
TRAININGS = "tests/engine/test_gpu.py"
FOLDS = 5


def main() -> None:
    """Each part in turn, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["trainings", "tests", "speed"])
    parser.add_argument("--seconds", type=float, default=570, help="for all parts together")
    parser.add_argument("--minutes", type=float, default=5, help="of the training of each fold")
    parser.add_argument("--data", type=Path, help="of the folds: the hippocampi of MSD Task04")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "gpu", help="of the folds' runs")
    parser.add_argument("--tiny", action="store_true", help="to try the script where there is no GPU")
    options = parser.parse_args()
    if "folds" in options.parts and options.data is None:
        parser.error("the folds need --data DIR, MSD Task04_Hippocampus")
    end, rows = time.monotonic() + options.seconds, []
    for name in options.parts:
        print(f"\n== {name}", flush=True)
        begun = time.monotonic()
        try:
            result = PARTS[name](options, end)
        except subprocess.TimeoutExpired:
            result = "not through in its time"
        rows.append((name, result, time.monotonic() - begun))
    print("\n| part | result | seconds |\n|---|---|---|")
    for name, result, seconds in rows:
        print(f"| {name} | {result} | {seconds:.0f} |")
    sys.exit(any(not result.startswith("good") for _, result, _ in rows))


def run(command: Sequence[str], end: float) -> str:
    """`good`, or with what code a command ended; its output is shown as it comes."""
    code = subprocess.run(command, cwd=ROOT, timeout=max(end - time.monotonic(), 1)).returncode
    return "good" if code == 0 else f"failed: exit code {code}"


def trainings(options: argparse.Namespace, end: float) -> str:
    return run([*PYTEST, TRAININGS], end)


def tests(options: argparse.Namespace, end: float) -> str:
    marked = [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in file.read_text()]
    others = [str(file.relative_to(ROOT)) for file in marked if file != ROOT / TRAININGS]
    return run([*PYTEST, *others], end)


def speed(options: argparse.Namespace, end: float) -> str:
    seconds = max(end - time.monotonic() - 60, 1)  # a row takes up to a minute
    tiny = ["--tiny", "--steps", "2"] if options.tiny else []
    return run([sys.executable, "tests/bench/gpu.py", "--seconds", str(seconds), *tiny], end)


def folds(options: argparse.Namespace, end: float) -> str:
    """The folds of one plan, all at once, each as a user would train it alone."""
    folder, medseg = options.folder, [sys.executable, "-m", "medseg"]
    config = folder / "plan.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    plan = [*medseg, "plan", str(options.data), "--output", str(config), "--overwrite"]
    planned = run([*plan, "--minutes", str(options.minutes)], end)
    if planned != "good":
        return f"plan {planned}"
    runs = [folder / f"run_{number}" for number in range(FOLDS)]
    trained = [
        subprocess.Popen(
            [*medseg, "train", "--config", str(config), "--run", str(run), "--fold", str(number), "--restart"],
            cwd=ROOT,
        )
        for number, run in enumerate(runs)
    ]
    try:
        codes = [process.wait(max(end - time.monotonic(), 1)) for process in trained]
    finally:
        for process in trained:
            process.kill()
    if any(codes):
        return f"failed: exit codes {codes}"
    files = [run / f"fold_{number}" / "eval" / "metrics.json" for number, run in enumerate(runs)]
    scores = [json.loads(file.read_text()) for file in files]
    cases = [one["cases"] for one in scores]
    mean = sum(one["mean_dice"] * count for one, count in zip(scores, cases, strict=True)) / sum(cases)
    return f"good: mean Dice {mean:.4f} of {sum(cases)} cases in {FOLDS} folds"


PARTS: dict[str, Callable[[argparse.Namespace, float], str]] = {
    "trainings": trainings,
    "tests": tests,
    "speed": speed,
    "folds": folds,
}

if __name__ == "__main__":
    main()
