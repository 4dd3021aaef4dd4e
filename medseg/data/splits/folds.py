"""Folds of a cross-validation: stratified by class presence, grouped by patient, kept in a file.

`splits.json` lists, for each fold, the cases to train on and those held out, as nnU-Net's `splits_final.json` does,
with the seed, the patients where they were given, and what a reader should know of the folds.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from medseg.core.errors import DataError, Problem, did_you_mean, listed
from medseg.core.labels import Labels
from medseg.core.parallel import every_result
from medseg.core.stored import read_stored
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.data.files.images import label_values
from medseg.data.splits.patients import find_patients

SCHEMA = "medseg-splits/1"
FOLDS_FILE = "splits.json"
NNUNET_FILE = "splits_final.json"
SHOWN = 5  # of many wrong cases, so many are named


@dataclass(frozen=True)
class Fold:
    """Names of cases."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Folds:
    """All folds; `patients` (case -> patient) is empty where every case is a patient of its own."""

    folds: tuple[Fold, ...]
    seed: int | None = None
    patients: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As `splits.json` keeps it."""
        folds = [{"train": list(fold.training), "val": list(fold.validation)} for fold in self.folds]
        content = {"schema": SCHEMA, "seed": self.seed, "notes": list(self.notes), "folds": folds}
        return json.dumps(content | ({"patients": dict(self.patients)} if self.patients else {}), indent=1) + "\n"

    def to_nnunet(self) -> str:
        """As nnU-Net's `splits_final.json` has them."""
        folds = [{"train": list(fold.training), "val": list(fold.validation)} for fold in self.folds]
        return json.dumps(folds, indent=4) + "\n"

    def fold(self, number: int, source: str = "fold") -> Fold:
        """Raises DataError when there is no such fold."""
        if not 0 <= number < len(self.folds):
            what = f"there is no fold {number}: {len(self.folds)} folds, counted from 0"
            raise DataError(Problem(source, what, f"give a number from 0 to {len(self.folds) - 1}"))
        return self.folds[number]


def find_folds(
    dataset: Dataset,
    labels: Labels,
    *,
    folds: int,
    seed: int,
    folds_file: str | Path | None = None,
    patient_pattern: str | None = None,
    patient_table: str | None = None,
    noted: bool = True,
) -> Folds:
    """The folds of a file, or made: stratified by class presence, grouped by patient.

    Args:
        labels: what the values of the label files mean.
        folds, seed: how many to make.
        noted: say which classes the folds of a file lack, for which every label is read.

    Raises:
        DataError: the file names unknown cases or divides a patient; labels cannot be read; too few patients.
    """
    names = [case.name for case in dataset.cases]
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        what = f"several cases are named {listed(repeated)}"
        raise DataError(Problem(str(dataset.root), what, "folds need one name a case"))
    patients = find_patients(names, patient_pattern, patient_table, dataset.patients)
    if folds_file is not None:
        read = read_folds(folds_file, names, patients)
        if read.seed is not None or not noted:  # what is to be known of our folds stands in the file
            return read
    presence = class_presence(dataset.cases, labels)
    if folds_file is not None:
        return read_folds(folds_file, names, patients, presence)
    return make_folds(presence, patients, folds, seed)


def class_presence(cases: Sequence[Case], labels: Labels) -> dict[str, frozenset[str]]:
    """Case -> its classes (without the background), from its label file.

    Raises:
        DataError: of all labels that cannot be read, at once.
    """

    def look(case: Case) -> frozenset[str]:
        counts = np.bincount(label_values(case.read_label(), labels.counts_as).ravel(), minlength=256)
        return frozenset(name for name, value in labels.classes.items() if value != labels.background and counts[value])

    return dict(zip((case.name for case in cases), every_result(look, cases), strict=True))


def make_folds(presence: Mapping[str, AbstractSet[str]], patients: Mapping[str, str], count: int, seed: int) -> Folds:
    """Divide the cases so that every fold has its share of every class, and no patient stands in two.

    Greedily, the rarest class first (iterative stratification: Sechidis et al. 2011, ECML PKDD, 145-158).

    Args:
        presence: case -> the classes that it has.
        patients: case -> patient; a case that is not named is a patient of its own.

    Raises:
        DataError: fewer patients than folds.
    """
    members: dict[str, list[str]] = {}
    for case in sorted(presence):
        members.setdefault(patients.get(case, case), []).append(case)
    if len(members) < count:
        remedy = f"set folds to {len(members)} or fewer" if len(members) > 1 else "add cases of other patients"
        raise DataError(Problem("folds", f"{count} folds of {len(members)} patient(s)", remedy))
    names = list(members)
    random.Random(seed).shuffle(names)
    has = {name: frozenset().union(*(presence[case] for case in members[name])) for name in names}
    classes = sorted(frozenset().union(*has.values()))
    wanted = {one: [sum(one in has[name] for name in names) / count] * count for one in classes}
    room = [len(presence) / count] * count
    held_out: list[list[str]] = [[] for _ in range(count)]
    remaining = list(names)
    while remaining:
        left = {one: sum(one in has[name] for name in remaining) for one in classes}
        rarest = min((one for one in classes if left[one]), key=lambda one: left[one], default=None)
        name = next(name for name in remaining if rarest is None or rarest in has[name])
        need = wanted[rarest] if rarest is not None else [0.0] * count
        fold = max(range(count), key=lambda number: (need[number], room[number], -number))
        held_out[fold] += members[name]
        room[fold] -= len(members[name])
        for one in has[name]:
            wanted[one][fold] -= 1
        remaining.remove(name)
    folds = tuple(
        Fold(tuple(sorted(set(presence) - set(out))), tuple(sorted(out)))
        for out in held_out  # an empty fold is impossible: the fold with the most room comes first
    )
    grouped = {case: patients[case] for case in sorted(presence) if case in patients}
    return Folds(folds, seed, grouped, tuple(_notes(folds, presence, patients)))


def _notes(folds: Sequence[Fold], presence: Mapping[str, AbstractSet[str]], patients: Mapping[str, str]) -> list[str]:
    """What is wanting: a class that a fold does not train on, or cannot be scored on, and why."""
    notes = []
    for name in sorted(frozenset().union(*presence.values())):
        who = {patients.get(case, case) for case, classes in presence.items() if name in classes}
        without = [n for n, fold in enumerate(folds) if not any(name in presence[case] for case in fold.training)]
        unscored = [n for n, fold in enumerate(folds) if not any(name in presence[case] for case in fold.validation)]
        if without:
            notes.append(f"fold {_numbers(without)} trains without the class {name!r}: only {len(who)} patient has it")
        if unscored:
            notes.append(f"fold {_numbers(unscored)} holds out no case with {name!r}: {len(who)} patient(s) have it")
    return notes


def read_folds(
    path: str | Path, cases: Sequence[str] | None, patients: Mapping[str, str] | None = None, presence: Any = None
) -> Folds:
    """Folds of a file in our or nnU-Net's format, checked against the cases of the data set.

    Args:
        cases: names of all labelled cases; None: whether the data set has them is not asked.
        patients: case -> patient; default: those that the file names.
        presence: case -> its classes, for notes on classes that a fold lacks; None: not looked at.

    Raises:
        DataError: no such file, another format, a case that the data set does not have, a case or a patient in both
            parts of a fold, a part without any case.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(Problem(str(path), "no such file", "folds_file names a splits.json"))
    remedy = 'expected [{"train": [case, ...], "val": [case, ...]}, ...], as nnU-Net writes it'
    file = read_stored(path, _FoldsFile, "no folds", remedy, DataError, encoding="utf-8-sig")
    folds = tuple(Fold(tuple(map(str, one.train)), tuple(map(str, one.val))) for one in file.folds)
    known = {case: str(patient) for case, patient in (file.patients or {}).items()}
    who = known if patients is None or not patients else dict(patients)
    problems = [] if folds else [Problem(str(path), "has no fold")]
    if cases is None:
        cases = sorted({case for fold in folds for case in (*fold.training, *fold.validation)})
    for number, fold in enumerate(folds):
        problems += _faults(f"{path}: fold {number}", fold, cases, who)
    if problems:
        raise DataError(problems)
    notes = list(_notes(folds, presence, who)) if presence is not None else list(file.notes or [])
    if left := sorted(set(cases) - {case for fold in folds for case in fold.validation}):
        notes.append(f"{len(left)} cases are held out in no fold: {listed(left)}")
    return Folds(folds, file.seed, who, tuple(dict.fromkeys(notes)))


Name = str | Annotated[int, Field(strict=True)]


class _FoldFile(BaseModel):
    """A fold as nnU-Net writes it; names that are numbers may be written as such, and further keys are anybody's."""

    model_config = ConfigDict(strict=True)
    train: list[Name]
    val: list[Name]


class _FoldsFile(BaseModel):
    """What `Folds.to_json` writes, or nnU-Net, whose file is the list of folds alone."""

    model_config = ConfigDict(strict=True)
    folds: list[_FoldFile]
    patients: dict[str, Name] | None = None
    notes: list[str] | None = None
    seed: int | None = None

    @model_validator(mode="before")
    @classmethod
    def from_list(cls, content: Any) -> Any:
        return {"folds": content} if isinstance(content, list) else content


def _faults(where: str, fold: Fold, cases: Sequence[str], patients: Mapping[str, str]) -> list[Problem]:
    found = []
    unknown = sorted({*fold.training, *fold.validation} - set(cases))
    for case in unknown[:SHOWN]:
        found.append(Problem(where, f"no case {case!r} in the data set", did_you_mean(case, list(cases)[:200])))
    if unknown[SHOWN:]:
        found.append(Problem(where, f"and {len(unknown) - SHOWN} more cases that the data set does not have"))
    for part, names in (("train", fold.training), ("val", fold.validation)):
        if not names:
            found.append(Problem(where, f"{part} is empty"))
        if repeated := [name for name, times in Counter(names).items() if times > 1]:
            found.append(Problem(where, f"{part} names {listed(repeated)} twice"))
    if both := sorted(set(fold.training) & set(fold.validation)):
        found.append(Problem(where, f"trains on cases that it holds out: {listed(both)}"))
    elif shared := sorted(
        {patients.get(case, case) for case in fold.training} & {patients.get(case, case) for case in fold.validation}
    ):
        what = f"the same patients in both parts: {listed(shared)}"
        found.append(Problem(where, what, "results would look better than they are: hold a patient out with all cases"))
    return found


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
