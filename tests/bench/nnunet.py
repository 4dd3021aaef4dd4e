"""nnU-Net 2.8.1 and medseg on the same cases and cores for the same minutes: Dice by case, time, memory, a paired test.

    python tests/bench/nnunet.py [DATA] [--minutes 15] [--fold 0 | --every N] [--output DIR]
                                 [--sides nnunet_2d nnunet_2d_bfloat16 nnunet_3d nnunet_3d_bfloat16 medseg]
                                 [--prediction default plain] [--until HH:MM] [--again] [--peer-python PYTHON]

DATA is LGG, BUSI, hippocampus (default), BraTS2modal or CamVid below MEDSEG_TEST_DATA, or the folder of a data set that
medseg reads. Held out of both sides are the cases of medseg's own fold (its `splits.json`, written as nnU-Net's
`splits_final.json`), or the official validation list where the data set has one; or every N-th case.

Each side plans for itself and trains for the same minutes, one after the other, with its own schedule drawn over them.
nnU-Net: by its own trainer (`nnunet_trainer.py`), 2D and 3D full resolution, as it is (float32) and with its network in
bfloat16 and channels last. medseg: by `medseg plan --minutes` and `medseg train`, nothing edited but that no epoch is
chosen by the held-out cases. Both are predicted by their own commands, whole processes: by `default` nnU-Net with
mirroring and medseg as planned, `plain` both without mirroring (for large volumes, of which one takes nnU-Net twenty
minutes of two cores otherwise, and to compare times). All masks are scored by medseg, a case without a mask as missed.
Memory is the largest sum of all processes of a command (PSS, twice a second).

nnU-Net is looked for in this Python, or in the one that `--peer-python` or MEDSEG_PEER_PYTHON names. The measurement
goes piece by piece into `results.json` of the folder: what is there is not done again (`--until`: no piece begins after
that time of day; `--again`: what failed is tried again), and several minutes and folds share a folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench_data import FOLDERS, ROOT, find_data, settings, told
from bench_pieces import Pieces, Row
from bench_scores import Held, paired

SIDES = ("nnunet_2d", "nnunet_2d_bfloat16", "nnunet_3d", "nnunet_3d_bfloat16", "medseg")
PREDICTIONS = ("default", "plain")
CONFIGURATIONS = {"2d": "2d", "3d": "3d_fullres"}
NUMBER = 4  # of the data set, in nnU-Net's names
NAME = f"Dataset{NUMBER:03d}_Bench"
TRAINER = Path(__file__).with_name("nnunet_trainer.py")
INSTALL = """nnU-Net is not installed in {python}. Make an environment of its own for it:
    python3 -m venv PEERS && PEERS/bin/pip install nnunetv2==2.8.1
    python tests/bench/nnunet.py --peer-python PEERS/bin/python"""
LAST_EPOCH_ONLY = "training.validation_interval=100000"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="hippocampus", help=f"{', '.join(FOLDERS)}, or a folder")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--every", type=int, metavar="N")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--prediction", nargs="+", choices=PREDICTIONS, default=list(PREDICTIONS[:1]))
    parser.add_argument("--until", metavar="HH:MM")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--peer-python", default=os.environ.get("MEDSEG_PEER_PYTHON", sys.executable))
    options = parser.parse_args()
    if options.every and options.fold:
        parser.error("--every divides the cases in the place of the folds: give one of the two")
    needs_peer = any(side != "medseg" for side in options.sides)
    if needs_peer and subprocess.run([options.peer_python, "-c", "import nnunetv2"], capture_output=True).returncode:
        print(INSTALL.format(python=options.peer_python), file=sys.stderr)
        return 2
    Comparison(options).run()
    return 0


class Comparison:
    """The folder of a fold: raw/ preprocessed/ results/ (nnU-Net's), held_out/, medseg_M/, plain/, masks/."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data = find_data(options.data)
        output = options.output or ROOT / "runs" / "nnunet" / self.data.name
        held_out = f"every_{options.every}" if options.every else f"fold_{options.fold}"
        self.folder: Path = output.resolve() / held_out
        self.pieces = Pieces(self.folder, options.until, options.again)
        self.minutes = f"{options.minutes:g}"
        self.config = self.folder / f"plan_{self.minutes}.yaml"
        self.environment = {f"nnUNet_{kind}": str(self.folder / kind) for kind in ("raw", "preprocessed", "results")}

    def run(self) -> None:
        plan = self.pieces.do(f"plan medseg {self.minutes}", self.plan)
        if "failed" in plan:
            raise SystemExit(plan["failed"])
        self.lay_out()
        sides = [side for side in self.options.sides if not (self.pictures and side.startswith("nnunet_3d"))]
        if any(side != "medseg" for side in sides):
            if "failed" in self.pieces.do("preprocess nnunet", self.preprocess):
                sides = [side for side in sides if side == "medseg"]
            else:
                shutil.copyfile(self.splits, self.folder / "preprocessed" / NAME / "splits_final.json")
        try:
            for side in sides:
                self.measure(side)
        finally:  # the sitting may end here
            print("\n" + table(self.pieces.rows, sides, self.minutes))

    def measure(self, side: str) -> None:
        """Train, predict, score; what a failure leaves out is not tried."""
        ours = side == "medseg"
        train = self.train_medseg if ours else partial(self.train_peer, side)
        if "failed" in self.pieces.do(f"train {side} {self.minutes}", train):
            return
        for how in self.options.prediction:
            masks = self.folder / "masks" / f"{side}_{self.minutes}_{how}"
            predict = partial(self.predict_medseg if ours else partial(self.predict_peer, side), masks, how)
            if "failed" not in self.pieces.do(f"predict {side} {self.minutes} {how}", predict):
                self.pieces.do(f"score {side} {self.minutes} {how}", partial(self.score, masks))

    # --- data ------------------------------------------------------------------------------------------------------

    def plan(self) -> Row:
        words = ["plan", self.data, "--output", self.config, "--overwrite", "--minutes", self.minutes]
        return self.medseg(*words, *settings(told(self.data)))

    def lay_out(self) -> None:
        """The data set in nnU-Net's layout, once, and the held-out cases in folders of their own; the split of both."""
        from nnunet_raw import lay_out, link

        from medseg.bundle.components import split_rules
        from medseg.bundle.facts import describe_data
        from medseg.config.load import load_config
        from medseg.data.splits.split import Split, decide_split
        from medseg.runs.official import read_data

        config = load_config(self.config)
        dataset = read_data(config)
        self.official = bool(dataset.splits) and not self.options.every
        if not self.official:
            data = config.data.model_copy(update={"fold": self.options.fold})
            config = config.model_copy(update={"data": data})
        facts = describe_data(config, dataset)
        self.labels, self.pictures = facts.labels, dataset.cases[0].is_picture
        if self.options.every:
            names = sorted(case.name for case in dataset.cases)
            held_out = tuple(names[:: self.options.every])
            split = Split(tuple(name for name in names if name not in held_out), held_out)
        else:
            split = decide_split(dataset, labels=facts.labels, **split_rules(config))
        self.held_out, self.splits = split.validation, self.folder / "splits_final.json"
        content = json.dumps([{"data": str(self.data), "train": split.training, "val": split.validation}])
        if self.splits.exists():
            if self.splits.read_text() != content:  # what it trained on may now be held out
                raise SystemExit(f"{self.folder} holds a comparison on other cases: give another --output")
            return
        cases = [case for case in dataset.cases if case.name in {*split.training, *split.validation}]
        raw = self.folder / "raw" / NAME
        lay_out(self.data, cases, facts, raw)
        shutil.rmtree(self.folder / "held_out", ignore_errors=True)
        for case in split.cases(dataset, "validation"):
            for image in case.images:
                link(Path(image), self.folder / "held_out" / "medseg" / Path(image).name)
            for image in sorted((raw / "imagesTr").glob(f"{case.name}_[0-9][0-9][0-9][0-9].*")):
                link(image, self.folder / "held_out" / "nnunet" / image.name)
            label = Path(str(case.label))
            link(label, self.folder / "held_out" / "labels" / case.name / label.name)
        self.splits.write_text(content)

    def preprocess(self) -> Row:
        """nnU-Net's fingerprint, plan and preprocessing of all cases; medseg's is in its training command."""
        cores = str(len(os.sched_getaffinity(0)))
        configurations = [CONFIGURATIONS["2d"]] if self.pictures else list(CONFIGURATIONS.values())
        return self.peer(
            "nnUNetv2_plan_and_preprocess", "-d", str(NUMBER), "-npfp", cores, "-np", cores, "-c", *configurations
        )

    # --- one side ----------------------------------------------------------------------------------------------------

    def train_medseg(self) -> Row:
        shutil.rmtree(self.run_folder.parent if not self.official else self.run_folder, ignore_errors=True)
        row = self.medseg(*self.training())
        history = (self.run_folder / "history.csv").read_text().splitlines()
        return row | {"epochs": int(history[-1].split(",")[0])}

    def train_peer(self, side: str) -> Row:
        said = self.folder / f"said_{side}_{self.minutes}.json"
        command = [self.options.peer_python, TRAINER, _configuration(side), "--minutes", self.minutes]
        command += ["--preprocessed", self.folder / "preprocessed" / NAME, "--said", said]
        command += ["--bfloat16"] if side.endswith("bfloat16") else []
        return self.pieces.call(command, self.environment | self.results(side)) | json.loads(said.read_text())

    def predict_medseg(self, masks: Path, how: str) -> Row:
        run = self.run_folder if how == "default" else self.without_mirroring()
        shutil.rmtree(masks, ignore_errors=True)
        words = ["predict", "--run", run, "--input", self.folder / "held_out" / "medseg", "--output", masks]
        return self.medseg(*words)

    def without_mirroring(self) -> Path:
        """A copy of the run that mirrors nothing."""
        from medseg.config.load import dump_config, load_config

        copy = self.folder / "plain" / self.run_folder.name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.run_folder, copy, ignore=shutil.ignore_patterns("cache", "eval"))
        config = load_config(self.run_folder / "config.yaml", ["inference.mirror_axes=[]"])
        (copy / "config.yaml").write_text(dump_config(config))
        return copy

    def predict_peer(self, side: str, masks: Path, how: str) -> Row:
        shutil.rmtree(masks, ignore_errors=True)
        words = ["-i", self.folder / "held_out" / "nnunet", "-o", masks, "-d", str(NUMBER), "-f", "0"]
        words += ["-c", _configuration(side), "-chk", "checkpoint_final.pth", "-device", "cpu"]
        words += [] if how == "default" else ["--disable_tta"]
        return self.peer("nnUNetv2_predict", *words, environment=self.results(side))

    def score(self, masks: Path) -> Row:
        """Dice of every held-out case and target; a case without a mask has missed its targets."""
        from medseg.core.errors import DataError
        from medseg.data.cases.masks import MaskPair
        from medseg.metrics.metric import load_metrics
        from medseg.workflows.score import ByCase

        by_case = ByCase(self.labels, 1.0, False, load_metrics())
        rows, missing = [], []
        for case in self.held_out:
            truth = next((self.folder / "held_out" / "labels" / case).iterdir())
            found = [path for path in masks.glob(f"{case}.*") if path.name[len(case) :].count(".") <= 2]
            try:
                if not found:
                    raise DataError("no mask")
                rows += [
                    (case, score.target, score.state, score.dice)
                    for score in by_case(MaskPair(case, truth, found[0])).scores
                ]
            except DataError as error:
                missing.append(f"{case}: {error}")
                rows += [(case, target, "missed", 0.0) for target in self.labels.targets]
        means = {}
        for target in self.labels.targets:
            values = [dice for _, name, _, dice in rows if name == target and dice is not None]
            means[target] = sum(values) / len(values) if values else None
        return {**Held.of(rows).to_plain(), "targets": means, "failed_cases": missing}

    # --- commands --------------------------------------------------------------------------------------------------

    @property
    def run_folder(self) -> Path:
        run = self.folder / f"medseg_{self.minutes}"
        return run if self.official else run / f"fold_{self.options.fold}"

    def training(self) -> list[Any]:
        fold = [] if self.official else ["--fold", str(self.options.fold)]
        run = self.run_folder if self.official else self.run_folder.parent
        overrides = [LAST_EPOCH_ONLY, f"data.cache={self.folder / 'cache'}"]
        overrides += [f"data.folds_file={self.splits}"] if self.options.every else []
        return ["train", "--config", self.config, "--run", run, *fold, *settings(overrides)]

    def medseg(self, *words: Any) -> Row:
        return self.pieces.call([sys.executable, "-m", "medseg", *words])

    def peer(self, program: str, *words: Any, environment: dict[str, str] | None = None) -> Row:
        place = str(Path(self.options.peer_python).parent / program)
        return self.pieces.call([place, *words], self.environment | (environment or {}))

    def results(self, side: str) -> dict[str, str]:
        """A folder for the results of each training."""
        return {"nnUNet_results": str(self.folder / "results" / f"{side}_{self.minutes}")}


def _configuration(side: str) -> str:
    """nnU-Net's name: `3d_fullres` of nnunet_3d_bfloat16."""
    return CONFIGURATIONS[side.split("_")[1]]


def table(rows: dict[str, Row], sides: list[str], minutes: str) -> str:
    """All figures of these minutes, in Markdown; beneath it every side against medseg, case by case."""
    lines = [
        "| side | prediction | Dice, mean of the targets | by case | steps | training, whole command, s | GiB "
        "| prediction, s | GiB | cases failed |",
        "|---" * 10 + "|",
    ]
    held: dict[str, dict[str, float]] = {}
    for side in sides:
        train = rows.get(f"train {side} {minutes}", {})
        if "failed" in train:
            lines.append(f"| {side} | | failed: {train['failed']} |" + " |" * 7)
        for how in PREDICTIONS:
            predict, score = (rows.get(f"{verb} {side} {minutes} {how}", {}) for verb in ("predict", "score"))
            if "failed" in predict or "failed" in score:
                lines.append(f"| {side} | {how} | failed: {predict.get('failed', score.get('failed'))} |" + " |" * 7)
            elif "done" in score:
                means = [value for value in score["targets"].values() if value is not None]
                steps = f"{train['steps']}" if "steps" in train else f"{train['epochs']} epochs"
                lines.append(
                    f"| {side} | {how} | {sum(means) / len(means):.4f} | {Held(score['dice'], score['healthy']).text} "
                    f"| {steps} | {train['seconds']:.0f} | {train['memory_gib']:.2f} | {predict['seconds']:.1f} "
                    f"| {predict['memory_gib']:.2f} | {len(score['failed_cases'])} |"
                )
                held.setdefault(f"{side}, {how}", score["dice"])
    ours = next((name for name in held if name.startswith("medseg, ")), None)
    if ours is not None:
        lines += ["", f"{ours}, against (mean difference of a case, Wilcoxon's signed-rank test, two-sided):"]
        lines += [f"    {name}: {paired(held[ours], dice)}" for name, dice in held.items() if name != ours]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
