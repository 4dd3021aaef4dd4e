"""Training crops of pictures (and of volumes): cut at a random scale, mirrored, not filled by one category alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from medseg.core.errors import DataError, Problem
from medseg.data.training.cache import CachedDataset
from medseg.data.training.patches import PatchDataset, Sized
from medseg.data.training.streams import stream

TRIES = 10  # crops that are looked at before one is taken as it is, as mmsegmentation
MODES = {2: "bilinear", 3: "trilinear"}


class CropDataset(PatchDataset):
    """Crops of cached cases at a random scale; sample number n of a run is always the same crop.

    Scale, place and mirroring of a sample are drawn from a stream each.

    `dataset[sample]` as in `PatchDataset`, the image in the type of the cache (bytes stay bytes). A crop of scale s
    shows `patch_size / s` of the picture's pixels. What it shows outside the picture is `fill` in the image and
    `outside` in the label. Cutting, scaling and mirroring touch the pixels of the crop only.

    Args:
        scale: smallest and largest scale; drawn evenly.
        category_cap: no class may fill more than this share of the pixels that count (10 draws are tried).
        flip_axes: spatial axes that are mirrored in half of the crops.
        fill: value of the image outside, one a channel or one for all.
        outside: value of the label outside: one that counts nowhere.
        ignored: label values that count nowhere.
    """

    def __init__(
        self,
        cases: CachedDataset,
        patch_size: Sequence[int],
        samples_per_epoch: int,
        seed: int,
        scale: Sequence[float],
        category_cap: float,
        flip_axes: Sequence[int] = (),
        fill: float | Sequence[float] = 0.0,
        outside: int = 0,
        ignored: Sequence[int] = (),
    ) -> None:
        super().__init__(cases, patch_size, {}, 0.0, samples_per_epoch, seed, outside=outside)
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale {list(scale)}: expected two numbers above 0, the smaller one first")
        self.scale = (float(scale[0]), float(scale[1]))
        self.category_cap = category_cap
        self.flip_axes = tuple(flip_axes)
        self.fill = fill
        self.ignored = tuple(ignored)

    def __getitem__(self, asked: int | Sized) -> dict[str, Any]:
        sample, size = self._sized(asked)
        _, entry, truth = self._labelled(sample)
        shape = tuple(entry.image.shape[1:])
        if len(shape) != len(size):
            raise DataError(Problem(entry.case, f"image of shape {shape}, but a crop of size {size}"))
        factor = stream(self.seed, sample, "crop.scale").uniform(*self.scale)
        box = tuple(max(1, round(side / factor)) for side in size)
        mirrored = stream(self.seed, sample, "crop.flip").random(len(shape)) < 0.5
        flips = [axis + 1 for axis in range(len(shape)) if axis in self.flip_axes and mirrored[axis]]
        places = stream(self.seed, sample, "crop.position")
        for _ in range(TRIES):
            start = _start(places, shape, box)
            label = self._label(truth, start, box, size)
            if self._is_mixed(label):
                break
        image = self._image(entry.image, start, box, size)
        return {
            "image": image.flip(flips) if flips else image,
            "label": label.flip(flips) if flips else label,
            "sample": torch.tensor(sample),  # takes shared memory where a lack of it is heard, as the rest does
            "case": entry.case,
        }

    def _is_mixed(self, label: torch.Tensor) -> bool:
        counts = np.bincount(label.numpy().ravel(), minlength=256)
        counts[list(self.ignored)] = 0
        return bool(counts.sum() and counts.max() <= self.category_cap * counts.sum())

    def _label(
        self, label: torch.Tensor, start: Sequence[int], box: Sequence[int], size: Sequence[int]
    ) -> torch.Tensor:
        """`(1, *size)`: the pixel at the centre of every pixel of the crop, `outside` beyond the picture."""
        for axis, (first, length, side) in enumerate(zip(start, box, size, strict=True), start=1):
            index = first + ((torch.arange(side) * 2 + 1) * length) // (2 * side)
            inside = (index >= 0) & (index < label.shape[axis])
            label = label.index_select(axis, index.clamp(0, label.shape[axis] - 1))
            if not inside.all():
                label.index_fill_(axis, (~inside).nonzero()[:, 0], self.outside)
        return label

    def _image(
        self, image: torch.Tensor, start: Sequence[int], box: Sequence[int], size: Sequence[int]
    ) -> torch.Tensor:
        """`(C, *size)`, linear; beyond the picture `fill`."""
        inside, there = [slice(None)], [slice(None)]
        for first, length, limit in zip(start, box, image.shape[1:], strict=True):
            low, high = max(0, first), min(limit, first + length)
            inside.append(slice(low, high))
            there.append(slice(low - first, high - first))
        cut = image[tuple(inside)]
        if cut.shape[1:] != tuple(box):
            whole = image.new_empty((image.shape[0], *box))
            whole[:] = torch.tensor(self.fill).to(image.dtype).view(-1, *[1] * len(box))
            whole[tuple(there)] = cut
            cut = whole
        if tuple(box) == tuple(size):
            return cut.clone(memory_format=torch.contiguous_format)
        channels_last = torch.channels_last if cut.ndim == 3 else torch.channels_last_3d  # what the byte kernels want
        batch = cut[None].contiguous(memory_format=channels_last)
        if batch.ndim == 5 and batch.dtype == torch.uint8:
            resized = F.interpolate(batch.float(), size, mode="trilinear").round_().to(torch.uint8)
        else:
            resized = F.interpolate(batch, size, mode=MODES[len(box)], align_corners=False)
        return resized[0].contiguous()


def _start(random: np.random.Generator, shape: Sequence[int], box: Sequence[int]) -> list[int]:
    """Where a box begins: inside the picture, or around it along the axes on which it is the longer one."""
    start = []
    for size, length in zip(shape, box, strict=True):
        low, high = sorted((0, size - length))
        start.append(int(random.integers(low, high + 1)))
    return start
