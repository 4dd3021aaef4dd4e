"""Which cases a data set has, and what its labels mean: Medical Segmentation Decathlon and nnU-Net raw folders.

A case is a plain dict: `{"case": name, "image": path or [path of each channel], "label": path}`, without the label
where there is none. The two layouts name labels in opposite directions (MSD: index -> name, nnU-Net: name -> index or
list of indices); the direction is how they are told apart. Folders of pictures, which have no `dataset.json`, are found
by `data.pairs`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medseg.config.errors import DataError, Problem
from medseg.config.labels import Labels
from medseg.data.description import channels_of, labels_of, layout_of, read_description
from medseg.data.folds import find_patients, read_folds
from medseg.data.images import ENDINGS, case_name
from medseg.data.pairs import find_layout, find_pairs
from medseg.data.pictures import is_picture

Case = dict[str, Any]
CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")  # nnU-Net: {case}_0000.nii.gz is channel 0


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: `cases` have labels, `unlabelled` have none.

    Args:
        layout: "msd" or "nnunet", or one of `data.pairs`, whose `labels` are empty: a card says what they mean.
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
        DataError: there is no folder, or neither a `dataset.json` that can be read nor pictures with masks.
    """
    root = Path(root).expanduser().resolve()
    if root.is_dir() and not (root / "dataset.json").is_file() and (pictures := find_layout(root)):
        return _find_pictures(root, layout, pictures)
    file = root / "dataset.json"
    description = read_description(root, file)
    problems: list[Problem] = []
    found = layout_of(description)
    if layout not in ("auto", found):
        what = f"looks like the layout {found!r}, but {layout!r} was asked for"
        problems.append(Problem(str(file), what, "set data.layout to auto"))
    labels = labels_of(description, found, str(file), problems)
    channels = channels_of(description, str(file), problems)
    if found == "msd":
        cases, unlabelled = _msd_cases(root, description, len(channels), problems)
    else:
        cases, unlabelled = _nnunet_cases(root, description, len(channels), problems)
    if not cases and not unlabelled and not problems:
        problems.append(Problem(str(file), "lists no case", "expected files in imagesTr and labelsTr"))
    for name, count in Counter(case["case"] for case in cases).items():
        if count > 1:
            problems.append(Problem(str(file), f"{count} cases are named {name!r}", "give each file its own name"))
    name = str(description.get("name") or root.name)
    return Dataset(root, found, name, channels, labels, tuple(_sorted(cases)), tuple(_sorted(unlabelled))), problems


def _find_pictures(root: Path, layout: str, found: str) -> tuple[Dataset, list[Problem]]:
    pairs = find_pairs(root, found)
    if layout not in ("auto", found):
        what = f"looks like the layout {found!r}, but {layout!r} was asked for"
        pairs.problems.append(Problem(str(root), what, "set data.layout to auto"))
    every: dict[str, Case] = {case["image"]: case for cases in pairs.splits.values() for case in cases}
    cases = tuple(case for case in every.values() if "label" in case)
    if not every and not pairs.problems:
        pairs.problems.append(Problem(str(root), f"holds no case of the layout {found!r}", "check data.root"))
    unlabelled = tuple(case for case in every.values() if "label" not in case)
    splits = {name: tuple(c for c in listed if "label" in c) for name, listed in pairs.splits.items() if name}
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
    ordered = _sorted(cases)
    if validation == 0:
        return ordered, []
    of = {case["case"]: (patients or {}).get(case["case"], case["case"]) for case in ordered}
    names = list(dict.fromkeys(of.values()))
    if len(names) < 2:
        remedy = "add cases, or set data.validation to 0"
        who = f"{len(ordered)} labelled case(s) of {len(names)} patient(s)"
        raise DataError(f"{who} cannot be split into training and validation", remedy)
    count = min(max(1, round(len(names) * validation)), len(names) - 1)
    held_out = {names[i] for i in random.Random(seed).sample(range(len(names)), count)}
    return (
        [case for case in ordered if of[case["case"]] not in held_out],
        [case for case in ordered if of[case["case"]] in held_out],
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
        chosen = read_folds(folds_file, [case["case"] for case in dataset.cases]).fold(fold, str(folds_file))
        names = set(chosen.training if section == "training" else chosen.validation)
        return [case for case in dataset.cases if case["case"] in names]
    if dataset.splits:
        wanted = {"training": "train", "validation": "val", **(splits or {})}[section]
        if not dataset.splits.get(wanted):
            known = ", ".join(f"{name} ({len(cases)})" for name, cases in dataset.splits.items())
            what = f"has no labelled case in a split {wanted!r}"
            raise DataError(Problem(str(dataset.root), what, f"set data.{section}_split; its splits: {known}"))
        return list(dataset.splits[wanted])
    patients = find_patients([case["case"] for case in dataset.cases], patient_pattern, patient_table)
    return split_cases(dataset.cases, validation, seed, patients)[section == "validation"]


def named_cases(root: str | Path, layout: str = "auto", names: Sequence[str] | None = None) -> list[Case]:
    """The labelled cases of these names (None: all).

    Raises:
        DataError: a name that the data set does not have.
    """
    cases = read_dataset(root, layout).cases
    if names is None:
        return list(cases)
    if unknown := sorted(set(names) - {case["case"] for case in cases}):
        raise DataError(Problem(str(root), f"has no labelled case {', '.join(map(repr, unknown[:5]))}"))
    return [case for case in cases if case["case"] in set(names)]


def list_inputs(path: str | Path, channels: int) -> list[Case]:
    """The cases to predict: one file; a folder of them; or a data set's root (its unlabelled cases, else all).

    In a folder, a case is one file (with the channels last), or the files `{case}_0000`, `{case}_0001`, ...

    Raises:
        DataError: nothing there, or a case without all its channels.
    """
    path = Path(path).expanduser().resolve()
    if path.is_file():
        match = CHANNEL.match(case_name(path))
        if channels > 1 and match:  # one channel of several: its siblings belong to it
            siblings = [file for file in _image_files(path.parent) if _case_of(file) == match["case"]]
            return _grouped(siblings, channels)
        return [{"case": case_name(path), "image": str(path)}]
    if not path.is_dir():
        raise DataError(Problem(str(path), "no such file or folder"))
    if (path / "dataset.json").is_file() or find_layout(path):
        dataset = read_dataset(path)
        chosen = dataset.unlabelled or dataset.cases
        return [{"case": case["case"], "image": case["image"]} for case in chosen]
    files = _image_files(path)
    if not files:
        raise DataError(Problem(str(path), "holds no image", f"expected files ending in {', '.join(ENDINGS)}"))
    return _grouped(files, channels)


# --- files ---------------------------------------------------------------------------------------------------------


def _msd_cases(
    root: Path, description: Mapping[str, Any], channels: int, problems: list[Problem]
) -> tuple[list[Case], list[Case]]:
    def image(entry: str) -> str | list[str]:
        path = root / entry
        if not path.is_file():  # nnU-Net's first version: the names of MSD, the files {case}_0000 of nnU-Net
            ending = path.name[len(case_name(path)) :]
            split = [path.with_name(f"{case_name(path)}_{i:04d}{ending}") for i in range(channels)]
            if split[0].is_file():
                return [_existing(file, problems) for file in split]
        return _existing(path, problems)

    cases, unlabelled = [], []
    for entry in description.get("training", []):
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            problems.append(Problem(str(root / "dataset.json"), f"training: {entry!r}", "expected image and label"))
            continue
        label = _existing(root / entry["label"], problems)
        cases.append({"case": case_name(entry["image"]), "image": image(entry["image"]), "label": label})
    for entry in description.get("test", []):
        file = entry["image"] if isinstance(entry, dict) else entry
        unlabelled.append({"case": case_name(file), "image": image(file)})
    return cases, unlabelled


def _nnunet_cases(
    root: Path, description: Mapping[str, Any], channels: int, problems: list[Problem]
) -> tuple[list[Case], list[Case]]:
    if isinstance(description.get("dataset"), dict):  # files listed one by one, with paths of any kind
        listed = []
        for name, entry in description["dataset"].items():
            images = [_existing(root / file, problems) for file in entry["images"]]
            listed.append(
                {"case": name, "image": _one_or_list(images), "label": _existing(root / entry["label"], problems)}
            )
        return listed, _nnunet_folder(root / "imagesTs", None, "", channels, problems)
    ending = description.get("file_ending", ".nii.gz")
    if ending not in ENDINGS:
        problems.append(Problem(str(root / "dataset.json"), f"file_ending {ending!r}", f"known: {', '.join(ENDINGS)}"))
        return [], []
    cases = _nnunet_folder(root / "imagesTr", root / "labelsTr", ending, channels, problems)
    return cases, _nnunet_folder(root / "imagesTs", None, ending, channels, problems)


def _nnunet_folder(
    images: Path, labels: Path | None, ending: str, channels: int, problems: list[Problem]
) -> list[Case]:
    groups: dict[str, dict[int, Path]] = {}
    for file in _image_files(images) if images.is_dir() else []:
        if match := CHANNEL.match(case_name(file)):
            if file.name.endswith(ending):
                groups.setdefault(match["case"], {})[int(match["channel"])] = file
        else:
            remedy = "nnU-Net names images {case}_0000, {case}_0001, ..., one file a channel"
            problems.append(Problem(str(file), "is named as no channel", remedy))
    names = set(groups)
    if labels is not None:
        names |= {case_name(file) for file in _image_files(labels)} if labels.is_dir() else set()
    cases = []
    for name in sorted(names):
        files = groups.get(name, {})
        for channel in set(files) - set(range(channels)):
            problems.append(Problem(str(files[channel]), f"is one channel too many: dataset.json names {channels}"))
        wanted = (
            1 if set(files) == {0} and is_picture(files[0]) else channels
        )  # a picture holds its colours in one file
        paths = [_existing(files.get(i, images / f"{name}_{i:04d}{ending}"), problems) for i in range(wanted)]
        case: Case = {"case": name, "image": _one_or_list(paths)}
        if labels is not None:
            case["label"] = _existing(labels / f"{name}{ending}", problems)
        cases.append(case)
    return cases


def _grouped(files: Iterable[Path], channels: int) -> list[Case]:
    """Cases of a folder without a description."""
    files = list(files)
    if channels == 1 and any(not CHANNEL.match(case_name(file)) for file in files):
        return [{"case": case_name(file), "image": str(file)} for file in files]
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_case_of(file), []).append(file)
    problems: list[Problem] = []
    cases: list[Case] = []
    for name, members in sorted(groups.items()):
        first = CHANNEL.match(case_name(members[0]))
        in_one = first is None or (channels > 1 and is_picture(members[0]) and int(first["channel"]) == 0)
        alone = len(members) == 1 and in_one
        expected = [f"{name}_{i:04d}" for i in range(channels)]
        if alone:
            cases.append({"case": name, "image": str(members[0])})
        elif [case_name(file) for file in sorted(members)] == expected:
            cases.append({"case": name, "image": _one_or_list([str(file) for file in sorted(members)])})
        else:
            got = ", ".join(file.name for file in sorted(members))
            remedy = f"expected {', '.join(expected)}, or one file with {channels} channel(s)"
            problems.append(Problem(str(members[0].parent), f"case {name!r} has {got}", remedy))
    if problems:
        raise DataError(problems)
    return cases


def _case_of(file: Path) -> str:
    match = CHANNEL.match(case_name(file))
    return match["case"] if match else case_name(file)


def _image_files(folder: Path) -> list[Path]:
    # names that start with a dot are not images: macOS leaves ._case.nii.gz beside every file of an archive
    return sorted(f for f in folder.iterdir() if f.name.lower().endswith(ENDINGS) and not f.name.startswith("."))


def _existing(path: Path, problems: list[Problem]) -> str:
    if not path.is_file():
        problems.append(Problem(str(path), "no such file", "add it, or take the case out"))
    return str(path.resolve())


def _one_or_list(paths: list[str]) -> str | list[str]:
    return paths[0] if len(paths) == 1 else paths


def _sorted(cases: Iterable[Case]) -> list[Case]:
    return sorted(cases, key=lambda case: str(case["case"]))
