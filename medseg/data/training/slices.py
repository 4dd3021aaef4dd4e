"""Slices of volumes with their neighbours, for networks of two dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medseg.core.errors import DataError, Problem
from medseg.data.training.cache import CachedDataset, Entry
from medseg.data.training.patches import PATCH, PatchDataset, Sized, cut, start_around
from medseg.inference.slices import with_neighbours


class SliceDataset(PatchDataset):
    """Patches of the slices of cached volumes, a share of them from slices that hold a target.

    `dataset[sample]` as in `PatchDataset`: `image` `(C * context, *patch_size)` float32, of each channel the slice and
    its neighbours, and the `label` `(1, *patch_size)` of the slice itself. Every case comes equally often, whatever its
    number of slices, and of a case every slice that holds the target equally often, however much of it: of a
    tumour the tips are as many slices as the middle.

    Args:
        cases: their volumes `(C, slices, X, Y)`.
        context: an odd number of neighbouring slices, the slice itself in their middle.
        foreground_probability: share of the samples from slices with a target, every target of the case alike.
    """

    def __init__(
        self,
        cases: CachedDataset,
        patch_size: Sequence[int],
        targets: Mapping[str, Sequence[int]],
        foreground_probability: float,
        samples_per_epoch: int,
        seed: int,
        margin: Sequence[int] | None = None,
        context: int = 1,
        outside: int = 0,
    ) -> None:
        super().__init__(cases, patch_size, targets, foreground_probability, samples_per_epoch, seed, margin, outside)
        self.context = context
        self._slices: dict[int, list[dict[int, np.ndarray]]] = {}

    def __getitem__(self, asked: int | Sized) -> dict[str, Any]:
        sample, size = self._sized(asked)
        index, entry, label = self._labelled(sample)
        if entry.image.ndim != 4:
            raise DataError(Problem(entry.case, f"image of shape {tuple(entry.image.shape[1:])}, expected a volume"))
        number, start = self._place(index, entry, size, np.random.default_rng([self.seed, PATCH, sample]))
        image = with_neighbours(entry.image, torch.tensor([number]), self.context)[0]
        return {
            "image": cut(image, start, size, self.margin),
            "label": cut(label[:, number], start, size, self.margin, self.outside),
            "sample": torch.tensor(sample),  # takes shared memory where a lack of it is heard, as the rest does
            "case": entry.case,
        }

    def _place(
        self, index: int, entry: Entry, size: Sequence[int], random: np.random.Generator
    ) -> tuple[int, list[int]]:
        """The number of a slice, and where the patch begins in it."""
        slices, *shape = entry.image.shape[1:]
        wanted = random.random() < self.foreground_probability
        present = self._present(index, entry)
        if not wanted or not present:
            return int(random.integers(slices)), start_around(None, shape, size, random)
        held = present[int(random.integers(len(present)))]
        numbers = list(held)
        number = numbers[int(random.integers(len(numbers)))]
        pixel = int(random.choice(held[number]))
        return number, start_around(tuple(map(int, np.unravel_index(pixel, shape))), shape, size, random)

    def _present(self, index: int, entry: Entry) -> list[dict[int, np.ndarray]]:
        """For each target of the case: the slices that hold it, and (some of) its pixels in each."""
        if index not in self._slices:
            area = int(np.prod(entry.image.shape[2:]))
            self._slices[index] = [
                _by_slice(np.concatenate([entry.voxels[v][1].numpy() for v in held]), area)
                for values in self.targets.values()
                if (held := [v for v in values if v in entry.voxels])
            ]
        return self._slices[index]


def _by_slice(voxels: np.ndarray, area: int) -> dict[int, np.ndarray]:
    """Flat indices in a volume -> slice: flat indices in it."""
    numbers, pixels = np.divmod(np.sort(voxels), area)
    found, first = np.unique(numbers, return_index=True)
    return dict(zip(found.tolist(), np.split(pixels, first[1:]), strict=True))
