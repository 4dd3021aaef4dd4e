"""Whether the official lists of a data set keep apart what is trained on and what is held out."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from medseg.core.errors import DataError, Problem, listed
from medseg.core.parallel import every_result
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset

REMEDY = "take those out of one of the lists, or choose two lists that share none"


def in_both(training: Collection[Case], held_out: Collection[Case]) -> list[str]:
    """Names of the held-out cases that are trained on too: by their names, or since all files of their images are.

    A link is the file that it leads to. What only the files' contents say is asked of their digests, elsewhere.
    """
    if not training or not held_out:
        return []
    names = {case.name for case in training}
    files = {file for found in every_result(_files, training) for file in found}
    both = every_result(lambda case: case.name in names or files.issuperset(_files(case)), held_out)
    return [case.name for case, shared in zip(held_out, both, strict=True) if shared]


def check_apart(dataset: Dataset, training: Sequence[Case], validation: Sequence[Case], lists: tuple[str, str]) -> None:
    """Raise a DataError that names the images which both lists have.

    Args:
        lists: what they are called in the data set.
    """
    if both := in_both(training, validation):
        one, other = lists
        named = f"the list {one!r} to train on names {len(both)} of the {len(validation)} images"
        what = f"{named} of {other!r} to validate on: {listed(both)}"
        raise DataError(Problem(str(dataset.root), what, REMEDY))


def _files(case: Case) -> list[tuple[int, int] | str]:
    """The files of its image as the system counts them, under whatever path; by their paths where it does not."""

    def number(path: str) -> tuple[int, int] | str:
        try:
            status = os.stat(path)
        except OSError:
            return path
        return (status.st_dev, status.st_ino) if status.st_ino else path

    return [number(path) for path in case.there]
