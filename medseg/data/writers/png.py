"""PNG masks and maps of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.core.labels import Labels
from medseg.data.files.images import write_map, write_mask
from medseg.data.files.pictures import is_picture
from medseg.data.writers.base import Writer


class PngWriter(Writer):
    """`NAME.png` in the labels' colours, of a picture's size."""

    maps = True

    def takes(self, image: Path) -> bool:
        return is_picture(image)

    def file(self, folder: Path, name: str) -> Path:
        return folder / f"{name}.png"

    def write_mask(self, path: Path, mask: np.ndarray, *, like: Path, labels: Labels) -> None:
        write_mask(path, mask, like=like, labels=labels)

    def write_map(self, path: Path, values: np.ndarray, levels: int, *, like: Path) -> None:
        write_map(path, values, levels, like=like)
