"""How images are read, where somebody says it: how large they may be, on what voxels they lie, which series counts.

The rules hold for a call, in whatever thread it is made (`with reading(rules):`), and for the threads and processes of
`core.parallel` that work for it; behind it those from before hold again. What they leave open is as whoever started the
process says in its environment, which is read and never written.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from medseg.core.errors import ConfigError, Problem
from medseg.core.parallel import carry
from medseg.core.patterns import fault_of

SPACING = "MEDSEG_SPACING_MM"
MODALITY, DESCRIPTION = "MEDSEG_DICOM_MODALITY", "MEDSEG_DICOM_DESCRIPTION"


@dataclass(frozen=True)
class ReadingRules:
    """What somebody says of how images are read; None: as the environment says, else as the files and defaults say.

    Args:
        largest_file_gib: GiB that an image may hold, unpacked.
        largest_picture_mp: megapixels that a picture may have.
        spacing_mm: lengths of a voxel along the axes of the file, where the headers lie.
        modality, description: see `Choice`.
    """

    largest_file_gib: float | None = None
    largest_picture_mp: float | None = None
    spacing_mm: tuple[float, ...] | None = None
    modality: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class Choice:
    """What a DICOM series has to be; None: anything.

    Args:
        modality: as its header says it: CT, MR, PT.
        description: a regular expression that is found in its description.
    """

    modality: str | None = None
    description: str | None = None

    def __bool__(self) -> bool:
        return (self.modality, self.description) != (None, None)

    def plain(self) -> list[str | None]:
        return [self.modality, self.description]


NOTHING_SAID = ReadingRules()
_rules = ContextVar("rules", default=NOTHING_SAID)


def now() -> ReadingRules:
    """The rules that hold here."""
    return _rules.get()


@contextmanager
def reading(rules: ReadingRules) -> Iterator[None]:
    """Inside images are read by these rules, none of those around them."""
    before = _rules.set(rules)
    try:
        yield
    finally:
        _rules.reset(before)


def begin(rules: ReadingRules) -> None:
    """From now on images are read by these rules: to the end of the process, or of `reading`."""
    _rules.set(rules)


carry(now, begin)


def read_as(
    largest_file_gib: float | None = None,
    largest_picture_mp: float | None = None,
    spacing_mm: Sequence[float] | None = None,
    modality: str | None = None,
    description: str | None = None,
) -> None:
    """How a bundle begins: see `ReadingRules` and `begin`."""
    lengths = None if spacing_mm is None else tuple(map(float, spacing_mm))
    begin(ReadingRules(largest_file_gib, largest_picture_mp, lengths, modality, description))


def said_spacing() -> tuple[float, ...] | None:
    """The lengths of a voxel that somebody says; raises ConfigError where the environment holds none."""
    if (said := now().spacing_mm) is not None:
        return said
    text = os.environ.get(SPACING)
    if not text:
        return None
    try:
        lengths = tuple(float(number) for number in text.strip("[] ").split(","))
    except ValueError:
        lengths = ()
    if len(lengths) not in (2, 3) or not all(0 < length < math.inf for length in lengths):
        raise ConfigError(Problem(SPACING, f"{text!r} is no spacing", "give two or three lengths in mm: 0.9,0.9,5"))
    return lengths


def choice() -> Choice:
    """Which series counts; raises ConfigError where the environment holds no regular expression."""
    modality, pattern = now().modality, now().description
    if pattern is None and (pattern := os.environ.get(DESCRIPTION) or None) and (fault := fault_of(pattern)):
        raise ConfigError(Problem(DESCRIPTION, f"is no regular expression: {fault}", "unset it, or correct it"))
    return Choice(modality or os.environ.get(MODALITY) or None, pattern)


def seen_as() -> list[Any]:
    """What of the rules changes the voxels that are read, or where they lie: a part of what names a cached case."""
    return [choice().plain(), said_spacing()]
