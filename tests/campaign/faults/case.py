"""What a fault is tried on: a copy of the small inputs, and all that medseg says of it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.campaign.entry import Outcome, medseg
from tests.campaign.inputs import VERBS, Home
from tests.campaign.results import results

CALL = "$__import__('os').system('touch executed')"
TRAIN = ("train", "--config", "tiny.yaml", "--run", "new")


@dataclass(frozen=True)
class Fault:
    """A fault that medseg once had.

    Args:
        section: of issue 15, where it is told: a letter.
        what: goes wrong, in words.
        find: what is wrong with this medseg, or None.
        needs: what of the inputs it is tried on, besides the data.
        slow: takes more than a second, so that the suite's sample leaves it out.
    """

    section: str
    what: str
    find: Callable[[Case], str | None]
    needs: tuple[str, ...] = ()
    slow: bool = False

    def found(self, home: Home) -> str | None:
        """What it finds, or what else no command may do (a traceback, a hang)."""
        case = Case(home, self.needs)
        wrong = self.find(case)
        others = [outcome.fault for outcome in case.outcomes if outcome.fault is not None]
        return next(iter([wrong, *others] if wrong else others), None)


class Case:
    """The folder of one trial, in which every command runs."""

    def __init__(self, home: Home, needs: tuple[str, ...]) -> None:
        self.home, self.needs = home, needs
        self.outcomes: list[Outcome] = []
        self.renewed()

    def renewed(self) -> None:
        """As it was at first."""
        self.place = self.home.fresh("check", *self.needs)

    def __truediv__(self, name: str) -> Path:
        return self.place / name

    def ask(self, *words: str | Path, **options: Any) -> Outcome:
        """`medseg WORDS`."""
        self.outcomes.append(medseg(*words, cwd=self.place, **options))
        return self.outcomes[-1]

    def predict(self, source: str | Path, output: str | Path, *options: str, run: str = "run") -> Outcome:
        return self.ask("predict", "--run", run, "--input", source, "--output", output, *options)

    def train(self, *changes: str, run: str = "new") -> Outcome:
        """With these `KEY=VALUE`."""
        return self.ask(*TRAIN[:-1], run, *(word for change in changes for word in ("--set", change)))

    def results(self, verb: str) -> dict[str, str]:
        """What one of the campaign's verbs comes to; nothing, where it refuses."""
        outcome = self.ask(*VERBS[verb])
        return {} if outcome.code else results(self.place, verb)

    @property
    def executed(self) -> str | None:
        """What is wrong where `CALL` was executed."""
        return "executed" if any(self.place.rglob("executed")) else None

    def described(self, **changes: Any) -> None:
        """Other entries of the data set's dataset.json."""
        changed(self / "data/dataset.json", **changes)

    def held_out(self, run: str = "run") -> set[str]:
        """The cases that the run's evaluation names."""
        with (self / run / "eval" / "metrics.csv").open(newline="") as file:
            return {row["case"] for row in csv.DictReader(file)}


def changed(file: Path, **entries: Any) -> None:
    """Other entries of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def state(folder: Path) -> dict[str, str]:
    """File -> digest."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def lost(before: dict[str, str], folder: Path) -> str | None:
    """What is wrong where a file is gone or is another one."""
    after = state(folder)
    names = [name for name, digest in before.items() if after.get(name) != digest]
    return f"replaced: {', '.join(names[:3])}" if names else None


def volume(path: Path, shape: Sequence[int] = (20, 24, 16), spacing_mm: Sequence[float] = (1, 1, 2), fill: Any = None):
    """A NIfTI file of noise, or of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(7).normal(size=shape) if fill is None else np.full(shape, fill)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), np.diag([*spacing_mm, 1.0])), path)
    return path
