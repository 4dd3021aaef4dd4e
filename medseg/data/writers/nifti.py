"""NIfTI-1 masks and maps, compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.core.labels import Labels
from medseg.data.files.images import write_map, write_mask
from medseg.data.files.pictures import is_picture
from medseg.data.writers.base import Writer


class NiftiWriter(Writer):
    """`NAME.nii.gz` on the grid of any volume, with a table of the labels' names in its header."""

    maps = True

    def takes(self, image: Path) -> bool:
        return not is_picture(image)

    def file(self, folder: Path, name: str) -> Path:
        return folder / f"{name}.nii.gz"

    def write_mask(self, path: Path, mask: np.ndarray, *, like: Path, labels: Labels) -> None:
        write_mask(path, mask, like=like, labels=labels)

    def write_map(self, path: Path, values: np.ndarray, levels: int, *, like: Path) -> None:
        write_map(path, values, levels, like=like)
