"""Data that runs were not trained on, read as they take it: channels by their names, classes that mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.bundle.trained import Trained
from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.cases.dataset import Dataset, read_dataset, with_channels
from medseg.runs.changes import say
from medseg.runs.members import channels_by_name

REMEDY = "give the data set the values that the run was trained with, or call its classes otherwise"


def read_other(members: Sequence[Trained], root: Path) -> Dataset:
    """Another data set, in whatever layout; its cases lack channels only where all runs may.

    Raises:
        DataError: it has other channels, or what a class or region of the runs is called has other values there.
    """
    lacking, facts = channels_by_name(members) is not None, members[0].facts
    dataset = with_channels(read_dataset(root.resolve(), missing=lacking), facts.channels, missing=lacking)
    check_classes(dataset, facts.labels)
    return dataset


def check_classes(dataset: Dataset, known: Labels) -> None:
    """Raise a DataError where a name means other values than in the run; say which values have other names.

    Labels are scored by their values, so a data set that numbers its classes otherwise would get meaningless figures.
    """
    there, named = dataset.labels.classes, {value: name for name, value in known.classes.items()}
    of_run = {**named, **{value: named[one] for value, one in known.counts_as.items()}}
    wrong = [
        (f"class {name!r} is {there[name]}", f"{value}")
        for name, value in known.classes.items()
        if name in there and of_run.get(there[name]) != name
    ]
    wrong += [
        (f"region {name!r} has the values {_text(dataset.labels.regions[name])}", _text(values))
        for name, values in known.regions.items()
        if set(dataset.labels.regions.get(name, values)) != set(values)
    ]
    if wrong:
        where = str(dataset.root)
        raise DataError([Problem(where, f"{what}, in the run {value}", REMEDY) for what, value in wrong])
    others = [f"{value} is {name!r} there and {of_run[value]!r} in the run" for name, value in there.items()
              if value in of_run and name not in known.classes and value not in known.counts_as]  # fmt: skip
    others += [f"{value}, {name!r} there, is no class of the run" for name, value in there.items()
               if value not in of_run and value not in known.ignored]  # fmt: skip
    say(f"labels are compared by their values: {'; '.join(others)}", unless=not others)


def _text(values: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(values)))
