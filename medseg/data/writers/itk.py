"""Masks in the formats of ITK: NRRD and MetaImage."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.core.labels import Labels
from medseg.data.files.images import write_mask
from medseg.data.files.pictures import is_picture
from medseg.data.writers.base import Writer


class ItkWriter(Writer):
    """`NAME.nrrd` or `NAME.mha` on the grid of any volume, compressed, with the labels' names in its header.

    Args:
        ending: of the file, which says the format.
    """

    def __init__(self, *, ending: str) -> None:
        self.ending = ending

    def takes(self, image: Path) -> bool:
        return not is_picture(image)

    def file(self, folder: Path, name: str) -> Path:
        return folder / f"{name}{self.ending}"

    def write_mask(self, path: Path, mask: np.ndarray, *, like: Path, labels: Labels) -> None:
        write_mask(path, mask, like=like, labels=labels)
