"""Which cases a data set has, and what its labels mean, whatever its layout (`data/cases/layouts/`, one file each)."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import DataError, Problem, listed
from medseg.core.files import absolute, walk
from medseg.core.labels import Labels
from medseg.data.cases.case import LACKING, Case, by_name, channel_of, stem
from medseg.data.cases.layouts import AUTO, LAYOUTS
from medseg.data.cases.layouts.files import grouped, image_files
from medseg.data.files.dicom import find_series, is_zip
from medseg.data.files.images import ENDINGS, case_name
from medseg.data.files.others import not_read

logger = logging.getLogger(__name__)


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


def read_dataset(root: str | Path, layout: str = AUTO, missing: bool = False) -> Dataset:
    """Find the cases of a data set, and what it says of them.

    Args:
        layout: the name of one in `LAYOUTS`, or auto: whichever it has.
        missing: cases may lack channels.

    Raises:
        ConfigError: there is no layout of that name.
        DataError: with every problem at once: missing files, contradictions in `dataset.json`, two cases of one name.
    """
    dataset, problems = find_dataset(root, layout, missing)
    if problems:
        raise DataError(problems)
    if missing:
        return dataset
    # an unlabelled case that lacks a channel is nothing wrong in some layouts, and nobody's to use
    cases, unlabelled = (tuple(c for c in some if not c.missing) for some in (dataset.cases, dataset.unlabelled))
    return replace(dataset, cases=cases, unlabelled=unlabelled)


def find_dataset(root: str | Path, layout: str = AUTO, missing: bool = False) -> tuple[Dataset, list[Problem]]:
    """As `read_dataset`, with the problems beside the cases instead of in their place: for `medseg check`.

    Raises:
        ConfigError: there is no layout of that name.
        DataError: nothing is there, or nothing that any layout knows.
    """
    root = absolute(root)
    asked = layout != AUTO and LAYOUTS.find(layout, "layout").load()().recognises(root)
    name = layout if asked else find_layout(root)
    if name is None:
        raise DataError(_nothing_at(root))
    found = LAYOUTS[name].load()().find(root)
    if layout not in (AUTO, name):
        what = f"looks like the layout {name!r}, but {layout!r} was asked for"
        found.problems.append(Problem(str(root), what, f"ask for {name!r}, or for {AUTO!r}"))
    if not missing:
        found.problems += _unless_trained(found.incomplete)
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
    what = f"has no dataset.json, nor what any other layout begins with; {_what_lies_in(root)}"
    return Problem(str(root), what, f"expected one of{expected}")


def _what_lies_in(root: Path) -> str:
    """The images below a path, by folder, in words."""
    counts = Counter(str(file.parent.relative_to(root)) for file in walk(root) if file.name.lower().endswith(ENDINGS))
    if not counts:
        series = find_series(root)[0] if root.is_dir() else []
        folders = listed([os.path.relpath(folder, root) for folder in series])
        return f"there are DICOM series, which a list gives labels: {folders}" if series else "there is no image in it"
    some = listed([f"{count} in {folder}" for folder, count in sorted(counts.items())])
    return f"there are images: {some}"


def _unless_trained(incomplete: Iterable[Problem]) -> list[Problem]:
    """What is wrong with cases that lack channels, with a remedy that does without them."""
    return [replace(one, remedy=f"{one.remedy}; {LACKING}" if one.remedy else LACKING) for one in incomplete]


def with_channels(dataset: Dataset, names: Sequence[str], *, missing: bool = True) -> Dataset:
    """The data set with these channels: its own in their places, by their names, and None where it has none.

    Names that are all numbers count the places. Names of which none is known are other words for the same channels,
    where there are as many; so are none at all. A single file of several channels stays as it is.

    Args:
        missing: it may lack some of them.

    Raises:
        DataError: it has other channels, or has them in another order in a single file.
    """
    if not dataset.channels:
        return dataset
    own, known = [name.casefold() for name in dataset.channels], [name.casefold() for name in names]
    unknown = [name for name in own if name not in known]
    numbers = own == [str(number) for number in range(len(own))]
    if own == known or (len(unknown) == len(own) == len(known)) or (numbers and len(own) == len(known)):
        return dataset
    if (unknown and not numbers) or len(own) > len(known) or (not missing and len(own) < len(known)):
        some = ", or some of them" if missing else ""
        what = f"has the channels {', '.join(dataset.channels)}, but expected are {', '.join(names)}{some}"
        raise DataError(Problem(str(dataset.root), what, "name them alike, and leave out what is not expected"))
    places = list(range(len(own))) if numbers else [known.index(name) for name in own]
    if places != sorted(places):
        whole = [case.name for case in (*dataset.cases, *dataset.unlabelled) if len(case.images) != len(own)]
        if whole:
            what = f"has the channels {', '.join(dataset.channels)} in one file, but expected are {', '.join(names)}"
            raise DataError(Problem(str(dataset.root), f"{what}: {listed(whole)}", "bring the file into that order"))

    def placed(case: Case) -> Case:
        if len(case.images) != len(own):
            return case
        there = dict(zip(places, case.images, strict=True))
        return replace(case, images=tuple(there.get(place) for place in range(len(known))))

    return replace(
        dataset,
        channels=tuple(names),
        cases=tuple(map(placed, dataset.cases)),
        unlabelled=tuple(map(placed, dataset.unlabelled)),
        splits={split: tuple(map(placed, cases)) for split, cases in dataset.splits.items()},
    )


def list_inputs(
    path: str | Path, channels: int, named: Sequence[str] | None = None, names: Sequence[str] = ()
) -> list[Case]:
    """The cases to predict: one file; a folder of them; or a data set (its unlabelled cases, else all).

    In a folder, a case is one file (with the channels last), the files `{case}_0000`, `{case}_0001`, ..., or, where
    there are no such files, a DICOM series: the folder itself, or every folder below it that holds one, and every zip
    with a study. Folders that hold no scan (localisers, reports), and none as `data.dicom` asks, are left out.

    Args:
        named: the names of the channels, where cases may lack some of them; a data set's are found by them.
        names: the same, where cases have all of them.

    Raises:
        DataError: nothing there, a case without all its channels, or one with channels of other names.
    """
    path, missing = absolute(path), named is not None
    if find_layout(path):
        dataset = read_dataset(path, missing=missing)
        known = named or names
        dataset = with_channels(dataset, known, missing=missing) if known else dataset
        chosen = dataset.unlabelled or dataset.cases
        return [replace(case, label=None) for case in chosen]
    if path.is_file():
        own = channel_of(path)
        if own is None or (siblings := image_files(path.parent)) == []:
            return [Case(case_name(path), (str(path),))]
        if channels > 1:  # one channel of several: its siblings belong to it
            siblings = [file for file in siblings if (found := channel_of(file)) and found[0] == own[0]]
        return [case for case in _grouped(siblings, channels, missing) if str(path) in case.there]
    if not path.is_dir():
        raise DataError(Problem(str(path), "no such file or folder"))
    if files := image_files(path):
        return _grouped(files, channels, missing)
    series, other = find_series(path)
    series = sorted([*series, *(file for file in path.iterdir() if is_zip(file))])
    if other:
        logger.warning("left out, since there is no scan in it: %s", listed([str(folder) for folder in other]))
    if not series:
        expected = f"expected files ending in {', '.join(ENDINGS)}, DICOM series, or zips of them"
        raise DataError(not_read(path.iterdir()) or Problem(str(path), "holds no image", expected))
    if len(series) > 1 and {folder.parent for folder in series} == {path}:
        return _grouped(series, channels, missing)
    names = ["_".join((*one.relative_to(path).parts[:-1], stem(one))) if one != path else path.name for one in series]
    return [Case(name, (str(folder),)) for name, folder in zip(names, series, strict=True)]


def _grouped(files: Iterable[Path], channels: int, missing: bool) -> list[Case]:
    """As `grouped`; the cases that lack channels are told of as well, unless they may."""
    incomplete: list[Problem] = []
    problems: list[Problem] = []
    cases: list[Case] = []
    try:
        cases = grouped(files, channels, incomplete)
    except DataError as error:
        problems += error.problems
    if problems := problems + ([] if missing else _unless_trained(incomplete)):
        raise DataError(problems)
    return cases
