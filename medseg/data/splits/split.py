"""The split of a run: which cases it trains on, which it holds out, which are for a test, and why.

It is decided once, by the rules below, and kept in the run's folder as `split.json`; whoever asks later reads that.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medseg.core.errors import DataError, Problem, listed
from medseg.core.files import replace_file
from medseg.core.labels import Labels
from medseg.core.sealed import sealed
from medseg.core.stored import Stored, read_sealed
from medseg.data.cases.case import Case, by_name, name_in_split
from medseg.data.cases.dataset import Dataset
from medseg.data.splits.apart import check_apart, in_both
from medseg.data.splits.folds import find_folds
from medseg.data.splits.patients import find_patients

SCHEMA = "medseg-split/1"
SPLIT_FILE = "split.json"
OFFICIAL = {"training": "train", "validation": "val"}
TEST = "test"  # the official list that nobody trains on or chooses by

Part = Literal["training", "validation", "test"]
PARTS: tuple[Part, ...] = ("training", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Names of labelled cases.

    Args:
        test: neither trained on nor looked at in training; empty where the data set has no official list of them.
        why: the rule that decided it, for a person.
        official: part -> the data set's own list that it is, if any (cases of two lists may share a name).
        left_out: part -> names of those that were on that side once, and are on neither since the data have changed.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()
    why: str = ""
    official: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def without(self, names: Collection[str]) -> Split:
        """The same with these on neither side."""
        kept: dict[str, Any] = {part: tuple(n for n in getattr(self, part) if n not in names) for part in PARTS}
        gone = {part: tuple(n for n in getattr(self, part) if n in names) for part in PARTS}
        left_out = {part: (*self.left_out.get(part, ()), *gone[part]) for part in PARTS}
        return replace(self, **kept, left_out={part: some for part, some in left_out.items() if some})

    def decided_as(self, other: Split) -> bool:
        """Whether both put the same cases on the same sides, whatever was left out since."""
        return all(
            {*getattr(self, part), *self.left_out.get(part, ())}
            == {*getattr(other, part), *other.left_out.get(part, ())}
            for part in PARTS
        )

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """Who is on which side, whatever the reason."""
        return self.training, self.validation, self.test

    @property
    def scored(self) -> Part:
        """The part that an evaluation scores: what is held out, or everything, where nothing is."""
        return "validation" if self.validation else "training"

    def cases(self, dataset: Dataset, part: Part) -> list[Case]:
        """The cases of a part, in the order of their official list, else of their names.

        They are called, and ordered, as they were when the split was decided, though a case of an official list has got
        the list's name before its own since (another list has a case of that name now), or has lost it.

        Raises:
            DataError: the data set lacks some of them.
        """
        names, found = set(getattr(self, part)), self.present(dataset, part)
        if missing := sorted(names - {case.name for case in found}):
            what = f"lacks {len(missing)} of the {len(names)} cases of the run's {part}: {listed(missing)}"
            remedy = "give the folder of the data set that the run was begun with"
            raise DataError(Problem(str(dataset.root), what, remedy))
        return found

    def present(self, dataset: Dataset, part: Part) -> list[Case]:
        """As `cases`, of those that the data set has."""
        names = set(getattr(self, part))
        return [case for case in self._listed(dataset, part) if case.name in names]

    def shared(self, dataset: Dataset) -> list[str]:
        """Names of the held-out cases whose images stand in the official list to train on too."""
        return in_both(*self._sides(dataset)) if self.official else []

    def check_apart(self, dataset: Dataset) -> None:
        """Raise a DataError that names them, if there are any: asked before anything is trained."""
        if self.official:
            check_apart(dataset, *self._sides(dataset), (self.official["training"], self.official["validation"]))

    def _sides(self, dataset: Dataset) -> tuple[list[Case], list[Case]]:
        return self.present(dataset, "training"), self.present(dataset, "validation")

    def _listed(self, dataset: Dataset, part: Part) -> Sequence[Case]:
        official = self.official.get(part, "")
        if not dataset.splits.get(official):
            return by_name(dataset.cases)
        places = {name: place for place, name in enumerate(getattr(self, part))}
        lost = places.keys() - {case.name for case in dataset.splits[official]}
        cases = [_called(case, official, places, lost) for case in dataset.splits[official]]
        return sorted(cases, key=lambda case: places.get(case.name, len(places)))

    def to_json(self) -> str:
        """As `split.json` keeps it."""
        parts: dict[str, Any] = {part: list(getattr(self, part)) for part in PARTS}
        left_out = {part: list(names) for part, names in self.left_out.items()}
        gone = {"left_out": left_out} if left_out else {}
        return sealed({"schema": SCHEMA, "why": self.why, "official": dict(self.official), **parts, **gone})


def _called(case: Case, official: str, known: Collection[str], lost: Collection[str]) -> Case:
    """The case by its name with its list's before it, or without, where that is a known one that no case has now."""
    if case.name in known:
        return case
    others = (name_in_split(case.name, official), case.name.removeprefix(name_in_split("", official)))
    return replace(case, name=next((name for name in others if name in lost), case.name))


def read_split(file: str | Path) -> Split:
    """The split that `to_json` wrote.

    Raises:
        RunError: the file is damaged, or of another kind.
    """
    remedy = "bring the file back from a copy of the run: which cases were trained on stands only there"
    said = read_sealed(Path(file), _SplitFile, "no split", remedy, required=False)
    parts = (said.training, said.validation, said.test)
    official: dict[str, str] = dict(said.official.items())
    left_out: dict[str, tuple[str, ...]] = dict(said.left_out.items())
    return Split(*parts, why=said.why, official=official, left_out=left_out)


class _SplitFile(Stored):
    """What `Split.to_json` writes; of a run from before changes were accepted nothing is left out."""

    schema_name: Literal["medseg-split/1"] = Field(alias="schema")
    why: str
    official: dict[Part, str]
    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    left_out: dict[Part, tuple[str, ...]] = Field(default_factory=dict)


def find_split(dataset: Dataset, file: str | Path, *, labels: Labels, keep: bool = False, **rules: Any) -> Split:
    """The split that the file holds; decided by the rules of `decide_split` where there is no file yet.

    Args:
        keep: write what was decided into the file.

    Raises:
        DataError: official lists share images; as `decide_split`.
    """
    if Path(file).is_file():
        return read_split(file)
    split = decide_split(dataset, labels=labels, **rules)
    split.check_apart(dataset)
    if keep:
        replace_file(Path(file), split.to_json())
    return split


def decide_split(
    dataset: Dataset,
    *,
    labels: Labels,
    validation: float = 0.2,
    seed: int = 0,
    official: Mapping[str, str] | None = None,
    fold: int | None = None,
    folds: int = 5,
    folds_file: str | Path | None = None,
    patient_pattern: str | None = None,
    patient_table: str | None = None,
) -> Split:
    """Which cases are held out: those of a fold, else by the data set's official lists, else a share of the patients.

    Args:
        labels: what the label files mean, where folds have to be made.
        validation, seed: of the random share; 0 holds nothing out.
        official: part -> name of the official list; default `OFFICIAL`.
        fold: number of a fold, of `folds_file` or of `folds` that are made.
        patient_pattern, patient_table: who the patients are, none of whom is divided.

    Raises:
        DataError: there is no such fold or official list, too few cases, or a patient is not known.
    """
    if fold is not None:
        who = {"patient_pattern": patient_pattern, "patient_table": patient_table}
        found = find_folds(dataset, labels, folds=folds, seed=seed, folds_file=folds_file, noted=False, **who)
        chosen = found.fold(fold)
        return Split(chosen.training, chosen.validation, why=f"fold {fold} of {len(found.folds)}")
    if dataset.splits:
        return _official(dataset, {**OFFICIAL, **(official or {})})
    names = [case.name for case in by_name(dataset.cases)]
    if validation == 0:
        return Split(tuple(names), (), why="no case is held out")
    patients = find_patients(names, patient_pattern, patient_table, dataset.patients)
    training, held_out = share(names, validation, seed, patients)
    of = f"{len(set(patients.values()))} patients" if patients else f"{len(names)} cases"
    return Split(tuple(training), tuple(held_out), why=f"{validation:.0%} of {of} at random, seed {seed}")


def _official(dataset: Dataset, lists: Mapping[str, str]) -> Split:
    parts: dict[str, Any] = {}
    for part, name in lists.items():
        if not dataset.splits.get(name):
            known = ", ".join(f"{name} ({len(cases)})" for name, cases in dataset.splits.items())
            what = f"has no labelled case in a split {name!r}"
            raise DataError(Problem(str(dataset.root), what, f"choose another split for the {part}; there are {known}"))
        parts[part] = tuple(case.name for case in dataset.splits[name])
    used = dict(lists)
    if dataset.splits.get(TEST) and TEST not in lists.values():
        parts["test"], used["test"] = tuple(case.name for case in dataset.splits[TEST]), TEST
    return Split(**parts, why=f"official lists: {', '.join(used.values())}", official=used)


def share(
    names: Sequence[str], validation: float, seed: int, patients: Mapping[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """(training, validation): a seeded share of the cases is held out, whatever order they come in.

    At least one case goes to each part.

    Args:
        patients: case -> patient, whose cases stay together; then the share is one of the patients.

    Raises:
        DataError: there are too few cases (or patients) to hold one out.
    """
    ordered = sorted(names)
    of = {name: (patients or {}).get(name, name) for name in ordered}
    groups = list(dict.fromkeys(of.values()))
    if len(groups) < 2:
        remedy = "add cases, or hold none out (validation 0)"
        who = f"{len(ordered)} labelled case(s) of {len(groups)} patient(s)"
        raise DataError(f"{who} cannot be split into training and validation", remedy)
    count = min(max(1, round(len(groups) * validation)), len(groups) - 1)
    held_out = {groups[i] for i in random.Random(seed).sample(range(len(groups)), count)}
    return [name for name in ordered if of[name] not in held_out], [name for name in ordered if of[name] in held_out]
