"""Which cases a data set has, and what its labels mean, whatever its layout: each has a file in `data/layouts/`.

Where there is a `dataset.json`, MSD and nnU-Net name labels in opposite directions (MSD: index -> name, nnU-Net: name
-> index or list of indices), and the direction is how they are told apart. Folders of pictures: `data/cases/pairs.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.cases.case import CHANNEL, Case, by_name, case_of
from medseg.data.cases.description import channels_of, labels_of, layout_of, read_description
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
