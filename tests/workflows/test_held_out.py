"""No image that a network was trained on is scored as held out, whatever happened to the data in between.

The histories are drawn: cases are added, removed, renamed, exchanged, overwritten by others or by what was there once
(as large, and said to be as old) and moved to another root between trainings that go on and evaluations, of one run and
of two whose splits differ; some cases are the same image from the beginning. A run may have stopped before its digests
were noted, and a third one begins with the weights of another (`--from`, `network.pretrained`). What was trained on is
kept beside them, by content; nothing is decoded, so that many histories take seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from medseg.bundle.facts import describe_data
from medseg.bundle.trained import Trained
from medseg.config.load import dump_config
from medseg.core.errors import MedsegError
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset, read_dataset
from medseg.data.files.digests import hashed
from medseg.data.splits.split import Split
from medseg.engine.resume import save_atomically
from medseg.networks import build_network
from medseg.runs import folder as run_folder
from medseg.runs.changes import Asked, held_out, resumed, trained_on
from medseg.runs.files import RunFiles, complete_files, files_of
from medseg.runs.folder import open_run, read_run
from medseg.runs.members import held_out_by_all
from medseg.runs.seen import Seen
from medseg.runs.split import run_split
from medseg.workflows.postprocess import fold_run
from tests.tiny import tiny_config

CASES = 6
ACCEPT = Asked(accept=True)


class World:
    """A data set in nnU-Net's layout, runs on it, and what each of them was ever trained on."""

    def __init__(self, folder: Path, draws: np.random.Generator) -> None:
        self.folder, self.draws, self.made = folder, draws, 0
        self.root = folder / "data"
        for kind in ("imagesTr", "labelsTr"):
            (self.root / kind).mkdir(parents=True)
        names = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "organ": 1}}
        (self.root / "dataset.json").write_text(json.dumps({**names, "file_ending": ".nii.gz", "numTraining": CASES}))
        self.seen: dict[str, set[str]] = {}
        self.kept: dict[str, set[str]] = {}  # what was held out once
        for number in range(CASES):
            self.write(f"case{number}", self.token())
        if draws.random() < 0.3:
            self.overwrite()
        for name in ("a", "b"):
            self.begin(name)
        if draws.random() < 0.5:
            self.cross()

    # --- the data set

    def token(self) -> str:
        """Another content of an image, of one of four sizes: a size that nobody was trained on tells something too."""
        self.made += 1
        return f"image{self.made:03d}" + "-" * int(self.draws.integers(4))

    def files(self, case: str) -> list[Path]:
        return [self.root / "imagesTr" / f"{case}_{channel:04d}.nii.gz" for channel in range(2)]

    def label(self, case: str) -> Path:
        return self.root / "labelsTr" / f"{case}.nii.gz"

    def write(self, case: str, token: str) -> None:
        """With the times that were there, if any, as one who replaces a file may leave them."""
        for channel, file in enumerate(self.files(case)):
            before = file.stat() if file.exists() else None
            file.write_text(f"{token} {channel}")
            if before is not None:
                os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        if not self.label(case).exists():
            self.label(case).write_text(case)

    def read(self, case: Case | str) -> str:
        """What the image is now, by its first channel."""
        first = self.files(case)[0] if isinstance(case, str) else Path(case.first)
        return first.read_text().split()[0]

    @property
    def cases(self) -> list[str]:
        return sorted(file.name.removesuffix(".nii.gz") for file in (self.root / "labelsTr").iterdir())

    def dataset(self) -> Dataset:
        description = json.loads((self.root / "dataset.json").read_text())
        (self.root / "dataset.json").write_text(json.dumps(description | {"numTraining": len(self.cases)}))
        return read_dataset(self.root)

    def some(self) -> str:
        return str(self.draws.choice(self.cases))

    # --- what happens to it

    def add(self) -> None:
        self.write(f"new{self.made}", self.read(self.some()) if self.draws.random() < 0.5 else self.token())

    def remove(self) -> None:
        if len(self.cases) > 3:
            case = self.some()
            for file in (*self.files(case), self.label(case)):
                file.unlink()

    def rename(self) -> None:
        case = self.some()
        self.made += 1
        other = f"case{self.draws.integers(CASES)}" if self.draws.random() < 0.5 else f"name{self.made}"
        if other not in self.cases:
            for old, new in zip(
                (*self.files(case), self.label(case)), (*self.files(other), self.label(other)), strict=True
            ):
                old.rename(new)

    def exchange(self) -> None:
        one, other = self.some(), self.some()
        first, second = self.read(one), self.read(other)
        self.write(one, second)
        self.write(other, first)

    def cross(self) -> None:
        """Images of both sides of a run change places."""
        split, there = run_split(self.run(str(self.draws.choice(sorted(self.seen))))), set(self.cases)
        trained, kept = ([name for name in side if name in there] for side in (split.training, split.validation))
        if trained and kept:
            one, other = str(self.draws.choice(trained)), str(self.draws.choice(kept))
            first, second = self.read(one), self.read(other)
            self.write(one, second)
            self.write(other, first)

    def overwrite(self) -> None:
        once = sorted({*map(self.read, self.cases), *(one for seen in self.seen.values() for one in seen)})
        self.write(self.some(), str(self.draws.choice(once)))

    def replace(self) -> None:
        self.write(self.some(), self.token())

    def relabel(self) -> None:
        self.label(self.some()).write_text(f"{self.made:06d}")

    def touch(self) -> None:
        for file in self.files(self.some()):
            file.touch()

    def move(self) -> None:
        """Another data.root."""
        self.made += 1
        self.root = Path(shutil.copytree(self.root, self.folder / f"data{self.made}"))

    # --- the runs

    def begin(self, name: str) -> None:
        cases = self.draws.permutation(self.cases).tolist()
        split = Split(tuple(cases[:3]), tuple(cases[3:5]), tuple(cases[5:]), why="drawn")
        config, dataset = tiny_config(self.root), self.dataset()
        run = Trained(self.folder / name, config, describe_data(config, dataset))
        (run.folder / "models").mkdir(parents=True)
        (run.folder / "models" / "model.pt").write_bytes(weights(len(run.facts.labels.channels)))
        (run.folder / "data.json").write_text(run.facts.to_json())
        files = files_of(
            dataset, [case for part in ("training", "validation", "test") for case in split.present(dataset, part)]
        )
        noted = split.training + split.validation
        self.keep(run, split, files.each(hashed, noted if self.draws.random() < 0.6 else noted[::2]))
        self.seen[name] = {self.read(case) for case in split.training}
        self.kept[name] = {self.read(case) for case in split.validation}

    def keep(self, run: Trained, split: Split, files: RunFiles) -> None:
        config = tiny_config(self.root)
        (run.folder / "config.yaml").write_text(dump_config(config))
        (run.folder / "split.json").write_text(split.to_json())
        files.write(run.folder)

    def run(self, name: str) -> Trained:
        return read_run(self.folder / name)

    def train(self) -> None:
        """As a training that goes on, of which the changes are accepted."""
        name, dataset = str(self.draws.choice(sorted(self.seen))), self.dataset()
        run = self.run(name)
        split, files = resumed(run, dataset, run_split(run), ACCEPT)
        self.keep(run, split, files)
        complete_files(run)
        images = {self.read(case) for case in split.cases(dataset, "training")}
        new = images - self.seen[name]
        assert not new & self.kept.setdefault(name, set()), f"{name} trains on {new}, of which some were held out"
        self.seen[name] |= images
        self.kept[name] |= {self.read(case) for case in split.cases(dataset, "validation")}

    def begin_from(self) -> None:
        """As `train --from` or `network.pretrained`, on data that have changed, in the place of the one before."""
        self.replace()
        self.replace()
        origin, dataset, run = str(self.draws.choice(["a", "b"])), self.dataset(), self.folder / "c"
        weights = self.folder / origin / "models" / "model.pt"
        named = {"training__start": str(self.folder / origin)}
        if self.draws.random() < 0.5:
            named = {"network__pretrained": str(weights)}
        config = tiny_config(self.root, **named, data__validation=0.5)
        shutil.rmtree(run, ignore_errors=True)
        self.seen.pop("c", None)
        self.kept.pop("c", None)
        with pytest.MonkeyPatch.context() as patch:
            for decoding in ("_try_network", "_open_cache", "write_bundle", "write_environment"):
                patch.setattr(run_folder, decoding, lambda *_, **__: None)
            for seed in self.draws.permutation(20).tolist():
                with contextlib.suppress(MedsegError):
                    opened = open_run(config.model_copy(update={"seed": seed}), run, dataset)
                    break
            else:
                return
        (run / "models").mkdir(exist_ok=True)
        shutil.copyfile(weights, run / "models" / "model.pt")
        complete_files(opened.run)
        self.seen["c"] = self.seen[origin] | {self.read(case) for case in opened.split.cases(dataset, "training")}

    def scored(self) -> Iterator[tuple[str, list[Case], set[str]]]:
        """By every verb: its name, what it scores as held out, and what its networks were trained on."""
        dataset, members = self.dataset(), {name: self.run(name) for name in self.seen}
        for asked in (Asked(), ACCEPT, Asked(accept=True, verify=True)):
            for name, member in members.items():
                with contextlib.suppress(MedsegError):
                    yield f"evaluate {name}", list(held_out(member, dataset, asked).cases), self.seen[name]
            for pair in combinations(members, 2):
                both, seen = [members[name] for name in pair], set().union(*(self.seen[name] for name in pair))
                with contextlib.suppress(MedsegError):
                    yield f"together {pair}", held_out_by_all(both, dataset, asked), seen
        for name, member in members.items():
            with contextlib.suppress(MedsegError):
                yield f"postprocess {name}", list(fold_run(member.folder, ACCEPT).cases.values()), self.seen[name]
            with contextlib.suppress(MedsegError):
                told = trained_on([member], dataset.cases)
                if Seen.by([member]).verified:  # else it says that nobody knows
                    yield f"--data {name}", [case for case in dataset.cases if case.name not in told], self.seen[name]


@cache
def weights(targets: int) -> bytes:
    """A file of weights as the tiny config's network has them."""
    config = tiny_config(Path())
    network = build_network(config.network.name, in_channels=2, out_channels=targets, **config.network.options())
    with tempfile.TemporaryDirectory() as folder:
        save_atomically(network.state_dict(), Path(folder, "model.pt"))
        return Path(folder, "model.pt").read_bytes()


HAPPENS = ("add", "remove", "rename", "exchange", "overwrite", "replace", "relabel", "touch", "move", "train", "train")
HAPPENS += ("begin_from", "begin_from", "overwrite", "overwrite", "cross", "cross")


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_scored_that_was_trained_on(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no machine stops here, and on a busy disk it is most of the time
    draws = np.random.default_rng(seed)
    world, scored = World(tmp_path, draws), 0
    for _ in range(8):
        for what in draws.choice(HAPPENS, 2).tolist():
            time.sleep(0.01)  # the system's own clock of changes ticks every four milliseconds
            with contextlib.suppress(MedsegError):
                getattr(world, what)()
        for verb, cases, seen in world.scored():
            images = {case.name: world.read(case) for case in cases}
            assert not seen & set(images.values()), f"{verb} scores {images}, but {sorted(seen)} were trained on"
            scored += len(cases)
    assert scored > 5
