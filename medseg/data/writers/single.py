"""Masks and maps of one file each, in the formats that medseg reads itself: NIfTI, NRRD, MetaImage, PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.core.labels import Labels
from medseg.data.files.images import write_map, write_mask
from medseg.data.files.pictures import is_picture
from medseg.data.writers.base import Writer


class FileWriter(Writer):
    """`NAME` and an ending, on the grid of the image, with the labels' names (of a picture: their colours) in the file.

    Args:
        ending: of the file, which says the format.
        pictures: it is for pictures, not for volumes.
        maps: it writes maps too.
    """

    def __init__(self, *, ending: str, pictures: bool = False, maps: bool = False) -> None:
        self.ending, self.pictures, self.maps = ending, pictures, maps

    def takes(self, image: Path) -> bool:
        return is_picture(image) == self.pictures

    def file(self, folder: Path, name: str) -> Path:
        return folder / f"{name}{self.ending}"

    def write_mask(self, path: Path, mask: np.ndarray, *, like: Path, labels: Labels) -> None:
        write_mask(path, mask, like=like, labels=labels)

    def write_map(self, path: Path, values: np.ndarray, levels: int, *, like: Path) -> None:
        if not self.maps:
            super().write_map(path, values, levels, like=like)
        write_map(path, values, levels, like=like)
