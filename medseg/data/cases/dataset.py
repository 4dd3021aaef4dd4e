"""Which cases a data set has, and what its labels mean, whatever its layout: each has a file in `data/layouts/`.

Where there is a `dataset.json`, MSD and nnU-Net name labels in opposite directions (MSD: index -> name, nnU-Net: name
-> index or list of indices), and the direction is how they are told apart. Folders of pictures: `data/cases/pairs.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.cases.case import CHANNEL, Case, by_name, case_of
from medseg.data.cases.description import channels_of, labels_of, layout_of, read_description
from medseg.data.cases.folds import find_patients, read_folds
from medseg.data.cases.layouts.bids import find_bids, is_bids
from medseg.data.cases.layouts.files import Found, grouped, image_files
from medseg.data.cases.layouts.lists import is_list, read_list
from medseg.data.cases.layouts.msd import msd_cases
from medseg.data.cases.layouts.nnunet import nnunet_cases
from medseg.data.cases.layouts.volumes import find_folders, find_volumes
from medseg.data.cases.pairs import FINDERS as PICTURES
from medseg.data.cases.pairs import find_layout as find_picture_layout
from medseg.data.cases.pairs import find_pairs
from medseg.data.files.dicom import find_series
from medseg.data.files.images import ENDINGS, case_name

FINDERS: Mapping[str, Callable[[Path], Found]] = {"csv": read_list, "bids": find_bids, "volumes": find_volumes}


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: `cases` have labels, `unlabelled` have none.

    Args:
        layout: "msd", "nnunet", "csv", "bids" or "volumes"; or one of `data.pairs`.
        channels, labels: empty where the data set does not say (pictures: a card does; else `data.unnamed`).
        splits: the official ones, name -> labelled cases; none where the data set does not say.
    """

    root: Path
    layout: str
    name: str
    channels: tuple[str, ...]
    labels: Labels
    cases: tuple[Case, ...]
    unlabelled: tuple[Case, ...]
    splits: Mapping[str, tuple[Case, ...]] = field(default_factory=dict)

    @property
    def patients(self) -> dict[str, str]:
        """Case -> patient, of the cases of whom the data set says it."""
        every = (*self.cases, *self.unlabelled)
        return {case.name: case.patient for case in every if case.patient is not None}

    @property
    def natural(self) -> bool:
        """A folder of pictures, in which 0 may be a class like any other."""
        return self.layout in PICTURES


def read_dataset(root: str | Path, layout: str = "auto") -> Dataset:
    """Read `dataset.json` and find the files it speaks of.

    Raises:
        DataError: with every problem at once: missing files, contradictions in `dataset.json`, two cases of one name.
    """
    dataset, problems = find_dataset(root, layout)
    if problems:
        raise DataError(problems)
    return dataset


def find_dataset(root: str | Path, layout: str = "auto") -> tuple[Dataset, list[Problem]]:
    """As `read_dataset`, with the problems beside the cases instead of in their place: for `medseg check`.

    Raises:
        DataError: nothing is there, or nothing that any layout knows.
    """
    root = Path(root).expanduser().resolve()
    name = find_layout(root)
    if name is None:
        read_description(root, root / "dataset.json")  # raises, and says what was expected
    if name in PICTURES:
        return _find_pictures(root, layout, name)
    if name == "described":
        name, found, title = _find_described(root)
    else:
        found, title = FINDERS[str(name)](root), case_name(root) if root.is_file() else root.name
    if layout not in ("auto", name):
        what = f"looks like the layout {name!r}, but {layout!r} was asked for"
        found.problems.append(Problem(str(root), what, "set data.layout to auto"))
    cases, unlabelled = tuple(by_name(found.cases)), tuple(by_name(found.unlabelled))
    return Dataset(root, str(name), title, found.channels, found.labels, cases, unlabelled), found.problems


def find_layout(root: Path) -> str | None:
    """Which layout a path has ("described": one with a `dataset.json`), or None."""
    if root.is_file():
        return "csv" if is_list(root) else None
    if (root / "dataset.json").is_file():
        return "described"
    if not root.is_dir():
        return None
    return "bids" if is_bids(root) else "volumes" if find_folders(root) else find_picture_layout(root)


def _find_described(root: Path) -> tuple[str, Found, str]:
    """Layout, cases and name of a data set with a `dataset.json`."""
    file = root / "dataset.json"
    description = read_description(root, file)
    found = Found()
    layout = layout_of(description)
    found.labels = labels_of(description, layout, str(file), found.problems)
    found.channels = channels_of(description, str(file), found.problems)
    list_cases = msd_cases if layout == "msd" else nnunet_cases
    found.cases, found.unlabelled = list_cases(root, description, len(found.channels), found.problems)
    if not found.cases and not found.unlabelled and not found.problems:
        found.problems.append(Problem(str(file), "lists no case", "expected files in imagesTr and labelsTr"))
    for name, count in Counter(case.name for case in found.cases).items():
        if count > 1:
            found.problems.append(
                Problem(str(file), f"{count} cases are named {name!r}", "give each file its own name")
            )
    return layout, found, str(description.get("name") or root.name)


def _find_pictures(root: Path, layout: str, found: Any) -> tuple[Dataset, list[Problem]]:
    pairs = find_pairs(root, found)
    if layout not in ("auto", found):
        what = f"looks like the layout {found!r}, but {layout!r} was asked for"
        pairs.problems.append(Problem(str(root), what, "set data.layout to auto"))
    every = {case.first: case for cases in pairs.splits.values() for case in cases}
    cases = tuple(case for case in every.values() if case.label is not None)
    if not every and not pairs.problems:
        pairs.problems.append(Problem(str(root), f"holds no case of the layout {found!r}", "check data.root"))
    unlabelled = tuple(case for case in every.values() if case.label is None)
    splits = {name: tuple(c for c in listed if c.label is not None) for name, listed in pairs.splits.items() if name}
    channels = ("red", "green", "blue")
    return Dataset(root, found, root.name, channels, Labels({}), cases, unlabelled, splits), pairs.problems


def split_cases(
    cases: Sequence[Case], validation: float, seed: int, patients: Mapping[str, str] | None = None
) -> tuple[list[Case], list[Case]]:
    """(training, validation): a seeded share of the cases is held out, whatever order they come in.

    At least one case goes to each part, unless `validation` is 0 (then the second part is empty).

    Args:
        patients: case -> patient, whose cases stay together; then the share is one of the patients.

    Raises:
        DataError: there are too few cases (or patients) to hold one out.
    """
    ordered = by_name(cases)
    if validation == 0:
        return ordered, []
    of = {case.name: (patients or {}).get(case.name, case.name) for case in ordered}
    names = list(dict.fromkeys(of.values()))
    if len(names) < 2:
        remedy = "add cases, or set data.validation to 0"
        who = f"{len(ordered)} labelled case(s) of {len(names)} patient(s)"
        raise DataError(f"{who} cannot be split into training and validation", remedy)
    count = min(max(1, round(len(names) * validation)), len(names) - 1)
    held_out = {names[i] for i in random.Random(seed).sample(range(len(names)), count)}
    return (
        [case for case in ordered if of[case.name] not in held_out],
        [case for case in ordered if of[case.name] in held_out],
    )


def load_cases(
    root: str | Path,
    section: Literal["training", "validation", "all", "unlabelled"],
    layout: str = "auto",
    validation: float = 0.2,
    seed: int = 0,
    splits: Mapping[str, str] | None = None,
    folds_file: str | Path | None = None,
    fold: int | None = None,
    patient_pattern: str | None = None,
    patient_table: str | None = None,
) -> list[Case]:
    """The cases of one part of a data set: the function that a bundle calls.

    Args:
        validation, seed: of the random split, where the data set has no official one.
        splits: section -> name of the official split; default: training is "train", validation is "val".
        folds_file, fold: the parts are those of this fold of this file instead, see `data.folds`.
        patient_pattern, patient_table: who the patients are, none of whom the random split divides.

    Raises:
        DataError: the data set has official splits, but not that one; the file does not fit the data set.
    """
    dataset = read_dataset(root, layout)
    if section == "unlabelled":
        return list(dataset.unlabelled)
    if section == "all":
        return list(dataset.cases)
    if section not in ("training", "validation"):
        raise ValueError(f"section {section!r}: expected training, validation, all or unlabelled")
    if fold is not None and folds_file is not None:
        chosen = read_folds(folds_file, [case.name for case in dataset.cases]).fold(fold, str(folds_file))
        names = set(chosen.training if section == "training" else chosen.validation)
        return [case for case in dataset.cases if case.name in names]
    if dataset.splits:
        wanted = {"training": "train", "validation": "val", **(splits or {})}[section]
        if not dataset.splits.get(wanted):
            known = ", ".join(f"{name} ({len(cases)})" for name, cases in dataset.splits.items())
            what = f"has no labelled case in a split {wanted!r}"
            raise DataError(Problem(str(dataset.root), what, f"set data.{section}_split; its splits: {known}"))
        return list(dataset.splits[wanted])
    listed = [case.name for case in dataset.cases]
    patients = find_patients(listed, patient_pattern, patient_table, dataset.patients)
    return split_cases(dataset.cases, validation, seed, patients)[section == "validation"]


def named_cases(root: str | Path, layout: str = "auto", names: Sequence[str] | None = None) -> list[Case]:
    """The labelled cases of these names (None: all).

    Raises:
        DataError: a name that the data set does not have.
    """
    cases = read_dataset(root, layout).cases
    if names is None:
        return list(cases)
    if unknown := sorted(set(names) - {case.name for case in cases}):
        raise DataError(Problem(str(root), f"has no labelled case {', '.join(map(repr, unknown[:5]))}"))
    return [case for case in cases if case.name in set(names)]


def list_inputs(path: str | Path, channels: int) -> list[Case]:
    """The cases to predict: one file; a folder of them; or a data set (its unlabelled cases, else all).

    In a folder, a case is one file (with the channels last), the files `{case}_0000`, `{case}_0001`, ..., or, where
    there are no such files, a DICOM series: the folder itself, or every folder below it that holds one.

    Raises:
        DataError: nothing there, or a case without all its channels.
    """
    path = Path(path).expanduser().resolve()
    if find_layout(path):
        dataset = read_dataset(path)
        chosen = dataset.unlabelled or dataset.cases
        return [replace(case, label=None) for case in chosen]
    if path.is_file():
        match = CHANNEL.match(case_name(path))
        if channels > 1 and match:  # one channel of several: its siblings belong to it
            return grouped([file for file in image_files(path.parent) if case_of(file) == match["case"]], channels)
        return [Case(case_name(path), (str(path),))]
    if not path.is_dir():
        raise DataError(Problem(str(path), "no such file or folder"))
    if files := image_files(path):
        return grouped(files, channels)
    series = find_series(path)
    if not series:
        expected = f"expected files ending in {', '.join(ENDINGS)}, or DICOM series"
        raise DataError(Problem(str(path), "holds no image", expected))
    if len(series) > 1 and {folder.parent for folder in series} == {path}:
        return grouped(series, channels)
    names = ["_".join(folder.relative_to(path).parts) or path.name for folder in series]
    return [Case(name, (str(folder),)) for name, folder in zip(names, series, strict=True)]
