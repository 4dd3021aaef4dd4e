"""Volumes cropped to the region that holds their targets: a box, a margin around it, and at least a patch."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, SpatialCrop

from medseg.core.boxes import bounding_box
from medseg.data.training.grids import plain

REGION = "region"  # the key of a case, and of its mask's sidecar, that says what it was cropped to


class CropToBoxd(MapTransform):
    """Base of what crops every key of a case to a box of voxels and beyond.

    Args:
        margin_mm: added to each side of the box.
        least_size: voxels of the grid that the case will be resampled to, along each axis: the region is no smaller,
            where the volume is not.
        spacing_mm: of that grid; None, of all axes or of one: the case's own.
    """

    def __init__(
        self,
        keys: Sequence[str],
        margin_mm: float,
        least_size: Sequence[int],
        spacing_mm: Sequence[float | None] | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.margin_mm, self.least_size = margin_mm, tuple(least_size)
        self.spacing_mm = (None,) * len(self.least_size) if spacing_mm is None else tuple(spacing_mm)

    def cropped(
        self, data: Mapping[Hashable, Any], low: np.ndarray, high: np.ndarray, margins: np.ndarray | float = 1.0
    ) -> dict[Hashable, Any]:
        """The case around the box [low, high) of voxels.

        Args:
            margins: times the margin: of all sides, or of each (axes, 2).
        """
        image = data["image"]
        own = np.linalg.norm(np.asarray(torch.as_tensor(image.affine))[:3, : len(low)], axis=0)
        later = np.array([side or before for side, before in zip(self.spacing_mm, own, strict=True)])
        around = np.broadcast_to(np.asarray(margins) * self.margin_mm, (len(low), 2)) / own[:, None]
        least = np.ceil((np.array(self.least_size) - 1) * later / own) + 1  # grids are from voxel centre to centre
        start, end = region(low - around[:, 0], high + around[:, 1], image.shape[1:], least)
        crop = SpatialCrop(roi_start=start, roi_end=end)
        # a copy where it is smaller, since a view would hold the whole volume in memory
        return dict(data) | {key: crop(data[key]).contiguous() for key in self.key_iterator(dict(data))}


class CropToLabelledd(CropToBoxd):
    """Crop to the box of the labelled targets, for training; a case without any stays whole.

    Each side has a margin of its own, from none to twice the one given, since the boxes that a network finds are not
    exact either. It is drawn from the seed and the name of the case.

    Args:
        values: of the label that count as a target.
    """

    def __init__(
        self,
        keys: Sequence[str],
        values: Sequence[int],
        margin_mm: float,
        least_size: Sequence[int],
        spacing_mm: Sequence[float | None] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(keys, margin_mm, least_size, spacing_mm)
        self.values, self.seed = tuple(values), seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        box = extent(np.isin(plain(data["label"])[0].numpy(), self.values))
        if box is None:
            return dict(data)
        draw = np.random.default_rng([self.seed, zlib.crc32(str(data["case"]).encode())])
        return self.cropped(data, *box, draw.uniform(0.0, 2.0, (len(self.least_size), 2)))


def extent(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """First voxel, and the one after the last, along each axis of what is True in `(*spatial)`; None: nothing is."""
    low, high = np.array([(side.start, side.stop) for side in bounding_box(mask)], dtype=float).T
    return (low, high) if high.all() else None


def region(low: np.ndarray, high: np.ndarray, shape: Sequence[int], least: np.ndarray) -> tuple[list[int], list[int]]:
    """Whole voxels of a volume that hold the box [low, high), and at least so many along each axis as far as there are.

    Where it has to grow, it does so on both sides alike, but for the border of the volume.
    """
    length = np.asarray(shape, dtype=int)
    start = np.floor(np.clip(low, 0, length - 1)).astype(int)
    end = np.maximum(np.ceil(np.clip(high, 0, length)).astype(int), start + 1)
    wanted = np.maximum(end - start, np.minimum(least, length).astype(int))
    start = np.clip(start - (wanted - (end - start)) // 2, 0, length - wanted)
    return start.tolist(), (start + wanted).tolist()
