"""nnU-Net 2.8.1 and medseg on the same cases and cores: preprocessing, Dice after equal minutes, time to predict.

    python tests/bench/nnunet.py [DATA] [--minutes 3 10 30] [--every 4] [--card CARD] [--folder DIR]
                                 [--sides nnunet nnunet_bfloat16 medseg] [--no-mirroring] [--peer-python PYTHON]

DATA is MSD Task04 (by default where the tests look for it, MEDSEG_TEST_DATA) or in nnU-Net's raw layout. Every fourth
case (`--every`) is held out of both. Each side plans for itself and trains for the same minutes, one after the other,
with its own schedule drawn over them. nnU-Net: by its own trainer, whose learning rate follows the clock in the place
of 1000 epochs, without its pauses to validate; once as it is (float32) and once with its network in bfloat16 and
channels last. medseg: by `medseg plan --minutes` and `medseg train`, nothing edited but that no epoch is chosen by the
held-out cases. Both are predicted by their own commands, whole processes, nnU-Net with mirroring and medseg without,
as are their defaults, and scored by `medseg score`; `--no-mirroring` is for large volumes, one of which takes nnU-Net
some twenty minutes of two cores with mirroring.

nnU-Net is looked for in this Python, or in the one that `--peer-python` or MEDSEG_PEER_PYTHON names. What the folder
holds is not trained again; the figures stand in its `results.json`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("nnunet", "nnunet_bfloat16", "medseg")
NUMBER = 4  # of the data set, in nnU-Net's names
INSTALL = """nnU-Net is not installed in {python}. Make an environment of its own for it:
    python3 -m venv PEERS && PEERS/bin/pip install nnunetv2==2.8.1
    python tests/bench/nnunet.py --peer-python PEERS/bin/python"""
LAST_EPOCH_ONLY = "training.validation_interval=100000"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data")) / "Task04_Hippocampus"
    parser.add_argument("data", type=Path, nargs="?", default=default)
    parser.add_argument("--minutes", type=float, nargs="+", default=[3.0, 10.0, 30.0])
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--card", default="task04_hippocampus")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "nnunet")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--no-mirroring", dest="mirroring", action="store_false")
    parser.add_argument("--peer-python", default=os.environ.get("MEDSEG_PEER_PYTHON", sys.executable))
    parser.add_argument("--train-peer", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--plan-and-fill", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train_peer:
        train_peer(options.minutes[0], bfloat16=options.train_peer == "nnunet_bfloat16")
        return 0
    if options.plan_and_fill:
        plan_and_fill(options.data, options.folder)
        return 0
    if not (options.data / "dataset.json").exists():
        print(f"{options.data} holds no dataset.json: give the folder of a data set", file=sys.stderr)
        return 2
    if subprocess.run([options.peer_python, "-c", "import nnunetv2"], capture_output=True).returncode:
        print(INSTALL.format(python=options.peer_python), file=sys.stderr)
        return 2
    Comparison(options).run()
    return 0


class Comparison:
    """The folder of a comparison: raw/ preprocessed/ results/ (nnU-Net's), held_out/, and a folder a training."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.folder.resolve()
        self.data: Path = options.data.resolve()
        self.name = f"Dataset{NUMBER:03d}_Bench"
        self.figures_file = self.folder / "results.json"
        self.figures: dict[str, dict[str, Any]] = {}
        if self.figures_file.exists():
            self.figures = json.loads(self.figures_file.read_text())

    def run(self) -> None:
        self.lay_out()
        self.preprocess()
        for minutes in self.options.minutes:
            for side in self.options.sides:
                self.train(side, minutes)
        longest = max(self.options.minutes)
        for side in self.options.sides:
            for mirroring in (False, True) if self.options.mirroring else (False,):
                self.predict(side, longest, mirroring)
        print(table(self.figures, self.options.sides, self.options.mirroring))

    def note(self, key: str, **figures: Any) -> None:
        self.figures[key] = figures
        self.figures_file.write_text(json.dumps(self.figures, indent=2) + "\n")
        print(f"{key}: {figures}", flush=True)

    # --- data ------------------------------------------------------------------------------------------------------

    def lay_out(self) -> None:
        """The data set in nnU-Net's layout and the held-out cases in folders of their own, all as links."""
        raw = self.folder / "raw" / self.name
        description = json.loads((self.data / "dataset.json").read_text())
        end = description.get("file_ending", ".nii.gz")
        if "channel_names" not in description:  # MSD: one channel, index -> name
            labels = {name: int(value) for value, name in description["labels"].items()}
            files = {path.name.removesuffix(end): [path] for path in _files(self.data / "imagesTr", end)}
            description = {"channel_names": description["modality"], "labels": labels, "file_ending": end}
        else:
            files = {}
            for path in _files(self.data / "imagesTr", end):
                files.setdefault(path.name.removesuffix(end).rpartition("_")[0], []).append(path)
        held_out = sorted(files)[:: self.options.every]
        shutil.rmtree(raw, ignore_errors=True)
        shutil.rmtree(self.folder / "held_out", ignore_errors=True)
        for case, images in files.items():
            label = self.data / "labelsTr" / f"{case}{end}"
            for channel, image in enumerate(sorted(images)):
                _link(image, raw / "imagesTr" / f"{case}_{channel:04d}{end}")
                if case in held_out:
                    _link(image, self.folder / "held_out" / "nnunet" / f"{case}_{channel:04d}{end}")
                    _link(image, self.folder / "held_out" / "medseg" / image.name)
            _link(label, raw / "labelsTr" / label.name)
            if case in held_out:
                _link(label, self.folder / "held_out" / "labels" / label.name)
        description["numTraining"] = len(files)
        (raw / "dataset.json").write_text(json.dumps(description))
        others = sorted(files.keys() - held_out)
        self.splits = self.folder / "splits_final.json"
        split = json.dumps([{"data": str(self.data), "train": others, "val": held_out}])
        if self.splits.exists() and self.splits.read_text() != split:  # what it trained on may now be held out
            raise SystemExit(f"{self.folder} holds a comparison on other cases: give another --folder")
        self.splits.write_text(split)

    def preprocess(self) -> None:
        """Fingerprint, plan and the preprocessing of all cases, each side in one process, its start included."""
        from medseg.core.machine import count_cores  # here, as nnU-Net's Python has no medseg

        if "preprocess nnunet" not in self.figures:
            cores = str(count_cores())
            words = ["-d", str(NUMBER), "-c", "3d_fullres", "-npfp", cores, "-np", cores]
            self.note("preprocess nnunet", seconds=self.peer("nnUNetv2_plan_and_preprocess", *words))
        shutil.copyfile(self.splits, self.folder / "preprocessed" / self.name / "splits_final.json")
        if "preprocess medseg" not in self.figures:
            cache = self.folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            command = [sys.executable, __file__, str(self.data), "--plan-and-fill", "--folder", str(self.folder)]
            self.note("preprocess medseg", seconds=self.call(command))

    # --- training --------------------------------------------------------------------------------------------------

    def train(self, side: str, minutes: float) -> None:
        key = f"train {side} {minutes:g}"
        if key in self.figures:
            return
        if side == "medseg":
            self.plan(minutes)
            seconds = self.medseg(*self.training(minutes), "--restart")
            progress = (self.run_folder(minutes) / "history.csv").read_text().splitlines()[-1]
            steps = f"{progress.split(',')[0]} epochs"
        else:
            done = self.folder / f"steps_{side}_{minutes:g}"
            command = [self.options.peer_python, __file__, "--train-peer", side, "--minutes", str(minutes)]
            own = {"BENCH_STEPS": str(done), "BENCH_PREPROCESSED": str(self.folder / "preprocessed" / self.name)}
            seconds = self.call(command, self.environment(side, minutes) | own)
            steps = f"{done.read_text()} steps"
        dice = self.predict(side, minutes, self.options.mirroring and side != "medseg")
        self.note(key, dice=dice, steps=steps, command_seconds=seconds)

    def predict(self, side: str, minutes: float, mirroring: bool) -> float:
        """The mean Dice of the held-out cases, and noted with it the seconds of the whole command."""
        key = f"predict {side} {minutes:g} {'mirrored' if mirroring else 'plain'}"
        if key in self.figures:
            return self.figures[key]["dice"]
        output = self.folder / "masks" / f"{side}_{minutes:g}"
        shutil.rmtree(output, ignore_errors=True)
        if side == "medseg":
            axes = "[0, 1, 2]" if mirroring else "[]"
            self.medseg(*self.training(minutes), "--set", f"inference.mirror_axes={axes}")  # trained: only evaluated
            run = self.run_folder(minutes)
            source = self.folder / "held_out" / "medseg"
            words = ["predict", "--run", str(run), "--input", str(source), "--output", str(output)]
            seconds = self.medseg(*words)
        else:
            words = ["-i", str(self.folder / "held_out" / "nnunet"), "-o", str(output), "-d", str(NUMBER), "-f", "0"]
            words += ["-c", "3d_fullres", "-chk", "checkpoint_final.pth", "-device", "cpu"]
            words += [] if mirroring else ["--disable_tta"]
            environment = self.environment(side, minutes)
            seconds = self.peer("nnUNetv2_predict", *words, environment=environment)
        truth = self.folder / "held_out" / "labels"
        command = [sys.executable, "-m", "medseg", "score", "--prediction", str(output), "--truth", str(truth)]
        command += ["--dataset", self.options.card, "--convention", "medical", "--json"]
        scored = subprocess.run(command, check=True, capture_output=True, text=True)
        dice = json.loads(scored.stdout)["mean_dice"]
        self.note(key, seconds=seconds, dice=dice)
        return dice

    # --- commands --------------------------------------------------------------------------------------------------

    def run_folder(self, minutes: float) -> Path:
        return self.folder / f"medseg_{minutes:g}" / "fold_0"

    def plan(self, minutes: float) -> float:
        overrides = [f"data.folds_file={self.splits}", LAST_EPOCH_ONLY, f"data.cache={self.folder / 'cache'}"]
        words = [word for override in overrides for word in ("--set", override)]
        output = str(self.folder / f"plan_{minutes:g}.yaml")
        return self.medseg("plan", str(self.data), "--output", output, "--overwrite", "--minutes", str(minutes), *words)

    def training(self, minutes: float) -> list[str]:
        run = str(self.run_folder(minutes).parent)
        return ["train", "--config", str(self.folder / f"plan_{minutes:g}.yaml"), "--fold", "0", "--run", run]

    def medseg(self, *words: str) -> float:
        return self.call([sys.executable, "-m", "medseg", *words])

    def peer(self, program: str, *words: str, environment: dict[str, str] | None = None) -> float:
        program = str(Path(self.options.peer_python).parent / program)
        return self.call([program, *words], environment or self.environment("", 0))

    def environment(self, side: str, minutes: float) -> dict[str, str]:
        """Where nnU-Net finds its files; the results of each training in a folder of their own."""
        places = {"raw": "raw", "preprocessed": "preprocessed", "results": f"results/{side}_{minutes:g}"}
        return {f"nnUNet_{kind}": str(self.folder / place) for kind, place in places.items()}

    def call(self, command: list[str], environment: dict[str, str] | None = None) -> float:
        """Seconds of a whole process; what it prints goes into `log.txt`."""
        begun = time.perf_counter()
        with (self.folder / "log.txt").open("a") as log:
            print("$", " ".join(command), file=log, flush=True)
            subprocess.run(command, check=True, stdout=log, stderr=log, env={**os.environ, **(environment or {})})
        return time.perf_counter() - begun


def plan_and_fill(data: Path, folder: Path) -> None:
    """medseg's plan, and then the cache of all cases as its training makes it."""
    from monai.bundle import ConfigParser

    from medseg.bundle.compile import compile_training
    from medseg.bundle.facts import describe_data
    from medseg.config.load import load_config
    from medseg.workflows.plan import plan

    made = plan(data, output=folder / "preprocess.yaml", minutes=5.0, overwrite=True)
    config = load_config(str(made.path), ["data.validation=0", f"data.cache={folder / 'cache'}"])
    content = compile_training(config, facts=describe_data(config), bundle_root=str(folder / "preprocess"))
    ConfigParser(content).get_parsed_content("train#cases").fill()


def train_peer(minutes: float, bfloat16: bool) -> None:
    """In nnU-Net's Python: train until the minutes of training (steps, and waiting for their data) are over."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as Theirs

    torch.set_num_threads(multiprocessing.cpu_count())  # as nnUNetv2_train does on a CPU

    class Trainer(Theirs):
        def run_training(self) -> None:
            self.on_train_start()
            self.network.train()
            if bfloat16:
                self.network.to(memory_format=torch.channels_last_3d)
            steps, seconds = 0, 0.0
            while seconds < 60 * minutes:
                begun = time.perf_counter()
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1 - seconds / (60 * minutes)) ** 0.9  # its PolyLRScheduler
                batch = next(self.dataloader_train)
                self.half_step(batch) if bfloat16 else self.train_step(batch)
                seconds += time.perf_counter() - begun
                steps += 1
            Path(os.environ["BENCH_STEPS"]).write_text(str(steps))
            self.on_train_end()

        def half_step(self, batch: dict[str, Any]) -> None:
            """Its `train_step` with the network in bfloat16 and channels last."""
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16):
                output = self.network(batch["data"].contiguous(memory_format=torch.channels_last_3d))
            loss = self.loss([level.float() for level in output], batch["target"])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
            self.optimizer.step()

    Trainer.__name__ = Theirs.__name__  # by which nnUNetv2_predict finds what it trained
    folder = Path(os.environ["BENCH_PREPROCESSED"])
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    description = json.loads((folder / "dataset.json").read_text())
    trainer = Trainer(plans, "3d_fullres", 0, description, torch.device("cpu"))
    trainer.initialize()
    trainer.run_training()


def table(figures: dict[str, dict[str, Any]], sides: tuple[str, ...], mirroring: bool) -> str:
    """All figures, in Markdown."""
    lines = [
        "",
        f"Mean Dice: nnU-Net's {'with' if mirroring else 'without'} mirroring, medseg's without",
        "",
        "| minutes | " + " | ".join(sides) + " |",
        "|---" * (len(sides) + 1) + "|",
    ]
    budgets = sorted({float(key.split()[-1]) for key in figures if key.startswith("train ")})
    for minutes in budgets:
        cells = [figures.get(f"train {side} {minutes:g}") for side in sides]
        shown = [f"{cell['dice']:.4f} ({cell['steps']})" if cell else "-" for cell in cells]
        lines.append(f"| {minutes:g} | " + " | ".join(shown) + " |")
    lines += ["", "| whole command | seconds | mean Dice |", "|---|---|---|"]
    for key, cell in figures.items():
        if not key.startswith("train "):
            dice = f"{cell['dice']:.4f}" if "dice" in cell else ""
            lines.append(f"| {key} | {cell['seconds']:.1f} | {dice} |")
    return "\n".join(lines)


def _files(folder: Path, end: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(end) and not path.name.startswith("."))


def _link(target: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


if __name__ == "__main__":
    sys.exit(main())
