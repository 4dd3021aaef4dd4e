"""What a writer is, and which of them writes what was found in an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.writers import AUTO, WRITERS


@dataclass(frozen=True)
class About:
    """A file in the folder of masks that speaks of all of them.

    Args:
        name: of the file, in that folder.
        lasting: what it says holds for the masks that are there already, so it may not say anything else later.
    """

    name: str
    text: str
    lasting: bool = False


class Writer(ABC):
    """Writes one mask a file; packages add writers by entry points of the group `medseg.writers`.

    Attributes:
        maps: whether it writes maps (`write_map`) too.
    """

    maps = False

    @abstractmethod
    def takes(self, image: Path) -> bool:
        """Whether it can write what was found in this (first) file of an image."""

    @abstractmethod
    def file(self, folder: Path, name: str) -> Path:
        """Where the mask, or map, of this name stands in a folder, or below it."""

    def about(self, cases: Collection[str], labels: Labels) -> list[About]:
        """What stands beside the masks of these cases, and speaks of all."""
        return []

    @abstractmethod
    def write_mask(self, path: Path, mask: np.ndarray, *, like: Path, labels: Labels) -> None:
        """Write `(*spatial)` whole numbers on the grid of the image `like`; the file appears whole or not at all.

        Args:
            labels: names (and colours) of the values that are written.
        """

    def write_map(self, path: Path, values: np.ndarray, levels: int, *, like: Path) -> None:
        """Write whole numbers `(*spatial)` from 0 to `levels`, which mean 0 to 1, on the grid of `like`."""
        raise NotImplementedError(f"{type(self).__name__} writes no maps")


@cache
def writer_of(name: str) -> Writer:
    """The writer of a format.

    Raises:
        ConfigError: there is none of this name; with the nearest one.
    """
    writer: Writer = WRITERS.find(name, "format").builder()()
    return writer


def own_writer(image: Path) -> Writer:
    """The writer of an image's own format: the first that takes it."""
    return next(writer for name in WRITERS.own if (writer := writer_of(name)).takes(image))


def about_masks(formats: Sequence[str], cases: Collection[str], labels: Labels) -> list[About]:
    """The files that speak of all masks in a folder, of the formats that are asked for.

    Args:
        labels: names and colours of the values in the masks.
    """
    return [about for name in formats if name != AUTO for about in writer_of(name).about(cases, labels)]


def writers_of(image: Path, formats: Sequence[str] = (AUTO,)) -> list[Writer]:
    """The writers that are asked for, of what was found in an image.

    Raises:
        DataError: one of them cannot write it.
    """
    writers = []
    for name in formats:
        writer = own_writer(image) if name == AUTO else writer_of(name)
        if not writer.takes(image):
            taking = [other for other in WRITERS.own if writer_of(other).takes(image)]
            what = f"what is found in it cannot be written as {name}"
            raise DataError(Problem(str(image), what, f"its formats: {', '.join(taking)}"))
        writers.append(writer)
    return writers
