"""Data that runs were not trained on, read as they take it: channels and classes by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.bundle.trained import Trained
from medseg.core.errors import DataError, Problem
from medseg.core.files import absolute
from medseg.core.labels import Labels
from medseg.data.cases.dataset import Dataset, read_dataset, with_channels
from medseg.runs.changes import say
from medseg.runs.members import channels_by_name

REMEDY = "give the data set the values that the run was trained with, or call its classes otherwise"


def read_other(members: Sequence[Trained], root: Path) -> tuple[Dataset, list[Trained]]:
    """Another data set, in whatever layout, and the runs as they understand its labels.

    Its cases lack channels only where all runs may.

    Raises:
        DataError: it has other channels, or classes or regions that cannot be those of the runs.
    """
    lacking, facts = channels_by_name(members) is not None, members[0].facts
    dataset = with_channels(read_dataset(absolute(root), missing=lacking), facts.channels, missing=lacking)
    labels = understood(dataset, facts.labels)
    return dataset, [replace(run, facts=replace(run.facts, labels=labels)) for run in members]


def understood(dataset: Dataset, known: Labels) -> Labels:
    """The labels of the runs, with the values that the data set's files have for them (`Labels.recoded`).

    Classes are found by their names. One that no run knows counts as background; where no name is known, the names are
    other words for the same values. What is ignored there is ignored. A value that the data set does not declare means
    nothing in its files, whatever it means to the runs (`Labels.undeclared`).

    Raises:
        DataError: a region has other values; a class that no run knows, where there is no background.
    """
    labels, own = _recoded(dataset, known), dataset.labels
    if not own.classes:  # it declares none
        return labels
    declared = {*own.known, *own.counts_as, own.background}
    return replace(labels, undeclared=tuple(sorted({*labels.known, *labels.counts_as} - declared)))


def _recoded(dataset: Dataset, known: Labels) -> Labels:
    there, ignored = dataset.labels.classes, dataset.labels.ignored
    of_run = {**known.classes, **_merged_names(dataset, known)}
    shared = [name for name in there if name in of_run and of_run[name] != known.background]
    where, problems, recoded = str(dataset.root), [], dict[int, int]()
    if not shared:
        wrong = [name for name, value in there.items() if of_run.get(name, value) != value]
        if wrong:
            what = "; ".join(f"class {name!r} is {there[name]}, in the run {of_run[name]}" for name in wrong)
            raise DataError(Problem(where, f"{what}, and no other class has a name of the run", REMEDY))
        _say_words(there, known)
        return _ignoring(known, {}, ignored)
    for name, value in there.items():
        if name in of_run:
            recoded[value] = of_run[name]
        elif known.background is None:
            problems.append(Problem(where, f"{value}, {name!r}, is no class of the run", "ignore it there"))
        else:
            recoded[value] = known.background
    for name, values in known.regions.items():
        given = {recoded.get(value, value) for value in dataset.labels.regions.get(name, ())}
        if given and given != set(values):
            what = f"region {name!r} has the values {_text(dataset.labels.regions[name])}, in the run {_text(values)}"
            problems.append(Problem(where, what, REMEDY))
    if problems:
        raise DataError(problems)
    _say_recoded(dataset, of_run, known)
    changed = {value: own for value, own in recoded.items() if own != known.counts_as.get(value, value)}
    return _ignoring(known, changed, ignored)


def _merged_names(dataset: Dataset, known: Labels) -> dict[str, int]:
    """The data set's own names of values that count as a class of the runs, which has merged them -> that class."""
    return {
        name: known.counts_as[value]
        for name, value in dataset.labels.classes.items()
        if name not in known.classes and value in known.counts_as
    }


def _ignoring(known: Labels, recoded: Mapping[int, int], ignored: Sequence[int]) -> Labels:
    """With what is ignored in another data set, under values that the runs have no other use for."""
    recoded, also = dict(recoded), list(known.also_ignored)
    for value in ignored:
        if value not in known.known and value not in known.counts_as:
            also.append(value)
        elif value not in known.ignored:
            used = {*known.known, *known.counts_as, *recoded, *ignored, *also}
            if not known.ignored:
                also.append(next(free for free in range(255, -1, -1) if free not in used))
            recoded[value] = known.ignored[0] if known.ignored else also[-1]
    return replace(known, recoded=recoded, also_ignored=tuple(also))


def _say_words(there: Mapping[str, int], known: Labels) -> None:
    names = {value: name for name, value in known.classes.items()}
    others = [f"{value} is {name!r} there and {names[value]!r} in the run" for name, value in there.items()
              if value in names and name != names[value]]  # fmt: skip
    others += [f"{value}, {name!r} there, is no class of the run" for name, value in there.items()
               if value not in names and value not in known.ignored and value not in known.counts_as]  # fmt: skip
    say(f"labels are compared by their values: {'; '.join(others)}", unless=not others)


def _say_recoded(dataset: Dataset, of_run: Mapping[str, int], known: Labels) -> None:
    there, background = dataset.labels.classes, dataset.labels.background
    others = [f"{name!r} is {value} there and {of_run[name]} in the run" for name, value in there.items()
              if name in of_run and of_run[name] != known.counts_as.get(value, value)]  # fmt: skip
    others += [f"{name!r} ({value}) there is no class of the run, and counts as background"
               for name, value in there.items() if name not in of_run and value != background]  # fmt: skip
    say(f"labels are compared by their names: {'; '.join(others)}", unless=not others)


def _text(values: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(values)))
