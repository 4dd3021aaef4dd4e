"""Which cases a data set has, and what its labels mean, whatever its layout (`data/cases/layouts/`, one file each)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.cases.case import CHANNEL, Case, by_name, case_of
from medseg.data.cases.layouts import AUTO, LAYOUTS
from medseg.data.cases.layouts.files import grouped, image_files
from medseg.data.files.dicom import find_series
from medseg.data.files.images import ENDINGS, case_name


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: `cases` have labels, `unlabelled` have none.

    Args:
        layout: the name of one in `LAYOUTS`.
        channels, labels: empty where the data set does not say (pictures: a card does; else `data/cases/unnamed.py`).
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
        return bool(LAYOUTS[self.layout].load().natural)


def read_dataset(root: str | Path, layout: str = AUTO) -> Dataset:
    """Find the cases of a data set, and what it says of them.

    Args:
        layout: the name of one in `LAYOUTS`, or auto: whichever it has.

    Raises:
        ConfigError: there is no layout of that name.
        DataError: with every problem at once: missing files, contradictions in `dataset.json`, two cases of one name.
    """
    dataset, problems = find_dataset(root, layout)
    if problems:
        raise DataError(problems)
    return dataset


def find_dataset(root: str | Path, layout: str = AUTO) -> tuple[Dataset, list[Problem]]:
    """As `read_dataset`, with the problems beside the cases instead of in their place: for `medseg check`.

    Raises:
        ConfigError: there is no layout of that name.
        DataError: nothing is there, or nothing that any layout knows.
    """
    root = Path(root).expanduser().resolve()
    asked = layout != AUTO and LAYOUTS.find(layout, "layout").load()().recognises(root)
    name = layout if asked else find_layout(root)
    if name is None:
        raise DataError(_nothing_at(root))
    found = LAYOUTS[name].load()().find(root)
    if layout not in (AUTO, name):
        what = f"looks like the layout {name!r}, but {layout!r} was asked for"
        found.problems.append(Problem(str(root), what, f"ask for {name!r}, or for {AUTO!r}"))
    dataset = Dataset(
        root,
        name,
        found.name or root.name,
        found.channels,
        found.labels,
        tuple(found.cases if found.splits else by_name(found.cases)),
        tuple(found.unlabelled if found.splits else by_name(found.unlabelled)),
        {split: tuple(c for c in cases if c.label is not None) for split, cases in found.splits.items()},
    )
    return dataset, found.problems


def find_layout(root: Path) -> str | None:
    """Which of medseg's own layouts a path has, the first in the table's order, or None.

    Raises:
        DataError: it has one, and what that begins with cannot be read.
    """
    return next((name for name, part in LAYOUTS.own.items() if part.load()().recognises(root)), None)


def _nothing_at(root: Path) -> Problem:
    """What is wrong with a path that has no layout."""
    if not root.exists():
        return Problem(str(root), "no such folder", "check the path")
    expected = "".join(f"\n       {name}: {part.load().expects}" for name, part in LAYOUTS.own.items())
    what = "has no dataset.json, nor what any other layout begins with"
    return Problem(str(root), what, f"expected one of{expected}")


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
