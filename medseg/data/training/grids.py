"""Other grids of what is loaded already: the plane of a picture, pictures of one size, slices in one piece."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch.nn import functional as F

from medseg.data.files.images import Image


def in_plane(image: Image) -> np.ndarray:
    """The affine of a 2D image: its own where the plane is axial, else its spacing along its own two axes."""
    columns = image.affine[:3, :2] / np.array(image.spacing_mm)
    if np.abs(columns[2]).max() < 1e-3 and abs(columns[:, 0] @ columns[:, 1]) < 1e-3:
        return image.affine
    return np.diag([*image.spacing_mm, 1.0, 1.0])


class LongestSided(MapTransform):
    """Resize pictures `(C, X, Y)` to so many pixels along the longer side; their shape stays.

    Images linearly, with a low-pass before they become coarser (speckle would alias otherwise); labels by the pixel at
    the centre. The affine follows, so that a mask finds its way back.
    """

    def __init__(self, keys: Sequence[str], longest_side: int) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.longest_side = longest_side

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            picture = case[key]
            old = picture.shape[1:]
            size = [max(1, round(length * self.longest_side / max(old))) for length in old]
            batch = plain(picture)[None]
            if key == "label":
                resized = F.interpolate(batch, size, mode="nearest-exact")
            else:
                resized = F.interpolate(batch, size, mode="bilinear", antialias=True)
            to_old = torch.eye(len(picture.affine), dtype=picture.affine.dtype)
            for axis, (before, after) in enumerate(zip(old, size, strict=True)):
                to_old[axis, axis] = before / after
                to_old[axis, -1] = before / after / 2 - 0.5  # both grids begin at the same edge
            meta = {name: value for name, value in picture.meta.items() if name != "affine"}
            case[key] = MetaTensor(resized[0], affine=picture.affine @ to_old, meta=meta)
        return case


class SlicesFirstd(MapTransform):
    """`(C, X, Y, slices)` -> `(C, slices, X, Y)`, so that a slice lies in one piece in memory and in the cache."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys, allow_missing_keys=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            volume = case[key]
            meta = {name: value for name, value in volume.meta.items() if name != "affine"}
            moved = plain(volume).movedim(-1, 1).contiguous()
            case[key] = MetaTensor(moved, affine=volume.affine[:, [2, 0, 1, 3]], meta=meta)
        return case


def plain(image: torch.Tensor) -> torch.Tensor:
    """The same memory without metadata, whose upkeep costs more than small operations."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image
