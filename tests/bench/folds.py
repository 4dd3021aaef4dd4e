"""A cross-validation as a user runs it, `medseg plan --minutes N` and `train`, nothing edited, resumable fold by fold.

    python tests/bench/folds.py DATA --minutes N [--output DIR] [--folds 0 1 ...] [--until HH:MM] [--again]

DATA is LGG, BUSI, hippocampus, BraTS2modal or CamVid below MEDSEG_TEST_DATA, or the folder of a data set that medseg
reads. Printed are mean and median of the patients' Dice out of fold and in fold 0 (of a healthy case: whether a target
was invented), what the choice of `medseg postprocess` gives where it was made without the fold that is scored, the
seconds a step that `plan` measured and that the training took, and where the time went. A data set with an official
validation list has one piece in the place of the folds, scored by the rules of its card.

Each fold is a piece in `results.json` of the folder: what is there is not done again, and a fold that was cut off goes
on from its checkpoint (`--until`: no fold begins after that time of day; `--again`: what failed is tried again).
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from bench_data import FOLDERS, ROOT, find_data, told
from bench_pieces import Failed, Pieces, Row
from bench_scores import Held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help=f"{', '.join(FOLDERS)}, or a folder")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", help="only these, from 0; default: all of the plan")
    parser.add_argument("--until", metavar="HH:MM")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--plan-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    data = find_data(options.data)
    if options.plan_to:
        plan(data, options.minutes, options.plan_to)
        return 0
    output = options.output or ROOT / "runs" / "folds" / f"{data.name}_{options.minutes:g}"
    measured = CrossValidation(data, options.minutes, Pieces(output, options.until, options.again))
    return measured.run(options.folds)


def plan(data: Path, minutes: float, output: Path) -> None:
    """`medseg plan` by its Python API, for the seconds a step that it counts on; they go beside the config."""
    from medseg.workflows.plan import plan, summary

    made = plan(data, output=output, minutes=minutes, overrides=told(data), overwrite=True)
    print(summary(made))
    folds = len(made.folds.folds) if made.folds else 0
    facts = {"measured": made.proposal.step.seconds, "kind": made.proposal.kind.name, "folds": folds}
    output.with_suffix(".said.json").write_text(json.dumps(facts))


class CrossValidation:
    """The folder: plan.yaml, run/ with a folder a fold, results.json, log.txt."""

    def __init__(self, data: Path, minutes: float, pieces: Pieces) -> None:
        self.data, self.minutes, self.pieces = data, minutes, pieces
        self.config, self.run_folder = pieces.folder / "plan.yaml", pieces.folder / "run"

    def run(self, only: list[int] | None) -> int:
        planned = self.pieces.do("plan", self.plan)
        if "failed" in planned:
            raise SystemExit(planned["failed"])
        if planned["official"]:
            pieces = {"official": None}
        else:
            pieces = {f"fold {number}": number for number in only or range(planned["folds"])}
        try:
            for key, number in pieces.items():
                self.pieces.do(key, partial(self.train, number))
            done = [row for key, row in self.pieces.rows.items() if key.startswith("fold ") and "done" in row]
            if len(done) == planned["folds"] > 1:
                self.pieces.do("postprocess", self.postprocess)
        finally:  # the sitting may end here
            print("\n" + text(self.pieces.rows, self.minutes))
        return int(any("failed" in row for row in self.pieces.rows.values()))

    def plan(self) -> Row:
        from medseg.data.cases.dataset import read_dataset

        command = [sys.executable, __file__, self.data, "--minutes", self.minutes, "--plan-to", self.config]
        row = self.pieces.call(command)
        facts = json.loads(self.config.with_suffix(".said.json").read_text())
        return row | facts | {"official": bool(read_dataset(self.data).splits)}

    def train(self, number: int | None) -> Row:
        """One fold; the cases that it held out, its steps, and where the time went."""
        folder = self.run_folder if number is None else self.run_folder / f"fold_{number}"
        words = [] if number is None else ["--fold", str(number)]
        command = [sys.executable, "-m", "medseg", "train", "--config", self.config, "--run", self.run_folder, *words]
        row = self.pieces.call(command)
        held = Held.read([folder / "eval" / "metrics.csv"]) if number is not None else None
        row |= {"steps": steps(folder / "models" / "checkpoint.pt"), **spent(folder)}
        if held is None:
            summary = json.loads((folder / "eval" / "metrics.json").read_text())
            return row | {"official": {key: summary[key] for key in ("mean_iou", "mean_dice") if key in summary}}
        return row | held.to_plain()

    def postprocess(self) -> Row:
        """The cleaning that the out-of-fold masks ask for, and its Dice without the fold that is scored."""
        row = self.pieces.call([sys.executable, "-m", "medseg", "postprocess", "--run", self.run_folder])
        evidence = json.loads((self.run_folder / "postprocessing.json").read_text())["evidence"]
        return row | {"targets": {name: one["dice_held_out"] for name, one in evidence["targets"].items()}}


def spent(run: Path) -> dict[str, float]:
    """Seconds of training, validation and final scoring, over all sittings."""
    times = json.loads((run / "time.json").read_text())
    return {part: round(times[part], 1) for part in ("training", "validation", "scoring")}


def steps(checkpoint: Path) -> int:
    """Steps of a finished training, as its optimiser counted them.

    Raises:
        Failed: the optimiser counts no steps.
    """
    from medseg.engine.resume import load_safely

    state = load_safely(checkpoint)
    counts = [int(one["step"]) for one in state["optimizer"]["state"].values() if "step" in one]
    if not counts:
        raise Failed(f"{checkpoint}: its optimiser counts no steps")
    return max(counts)


def text(rows: dict[str, Row], minutes: float) -> str:
    """All figures; Markdown."""
    plan = rows["plan"]
    lines = [
        f"{minutes:g} minutes; {plan['kind']}, planned in {plan['seconds']:.0f} s, {plan['measured']:.3f} s a step",
        "",
        "| piece | held-out cases | steps | s a step | of plan's | whole, min "
        "| training | validation | scoring | GiB |",
        "|---" * 10 + "|",
    ]
    dice: dict[str, float] = {}
    healthy: dict[str, bool] = {}
    for key, row in rows.items():
        if key in ("plan", "postprocess"):
            continue
        if "done" not in row:
            lines.append(f"| {key} | {row.get('failed', 'was cut off')} |" + " |" * 8)
            continue
        dice |= row.get("dice", {})
        healthy |= row.get("healthy", {})
        said = Held(row["dice"], row["healthy"]).text if "dice" in row else str(row["official"])
        lines.append(f"| {key} | {said} |{_times(row, plan, minutes)}")
    lines += ["", f"out of fold: {Held(dice, healthy).text}"] if dice else []
    if "done" in (cleaned := rows.get("postprocess", {})):
        means = ", ".join(f"{name} {value}" for name, value in cleaned["targets"].items())
        lines.append(f"cleaned as `medseg postprocess` chooses without the fold that is scored: Dice {means}")
    return "\n".join(lines)


def _times(row: Row, plan: Row, minutes: float) -> str:
    """The cells on time and memory; training, validation and scoring as shares of the minutes."""
    a_step = row["training"] / row["steps"]
    whole = f"{row['seconds'] / 60:.1f}" if row["begun"] == 1 else f"in {row['begun']} sittings"
    shares = [f"{row[part] / 60 / minutes:.1%}" for part in ("training", "validation", "scoring")]
    cells = [f"{row['steps']}", f"{a_step:.3f}", f"{a_step / plan['measured']:.2f}", whole, *shares]
    return " " + " | ".join([*cells, f"{row['memory_gib']:.2f}"]) + " |"


if __name__ == "__main__":
    sys.exit(main())
