"""Training patches: sample number n of a run is always the same patch, whoever reads it and in whatever order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from medseg.core.errors import DataError, Problem
from medseg.data.cases.case import Case
from medseg.data.training.cache import CachedDataset, Entry
from medseg.data.training.growth import PatchGrowth

ORDER, PATCH = 1, 2  # keep the streams of random numbers apart

Sized = tuple[int, tuple[int, ...]]
"""The number of a sample, and the size of its patch."""


class PatchDataset(Dataset):
    """Patches of cached cases, some of them centred on a voxel of a target.

    `dataset[sample]` takes the number of the sample since the start of the run (no upper bound) and returns `image`
    `(C, *patch_size)` float32, `label` `(1, *patch_size)` uint8, `sample` and `case`. Every pass over the cases is a
    fresh permutation. A volume smaller than the patch is padded evenly on both sides: the image with 0, which is what
    MONAI's sliding window pads with at inference (after z-scoring, the mean, or the background where that is set to 0);
    the label with `outside`: of medical images the background, so that the network learns that nothing is out there.

    `dataset[sample, size]` is a smaller patch (or a larger one) in the place of `patch_size`. The size comes with the
    number, and not by way of the data set, of which each loader worker has a copy.

    With a `margin`, the patch comes with that many voxels a side around it, for an augmentation that turns and shrinks
    it to cut it out of: so the border of the patch is real, and only that of the volume is repeated.

    Args:
        targets: name -> label values (`Labels.targets`).
        foreground_probability: share of the patches that are centred on a target, every target of the case alike.
        samples_per_epoch: `len(dataset)`; has no influence on a sample.
        margin: voxels a side for each axis; default 0.
        outside: value of the label around a volume; default 0.
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
        outside: int = 0,
    ) -> None:
        if not len(cases):
            raise DataError("no case to train on")
        self.cases = cases
        self.patch_size = tuple(patch_size)
        self.targets = {name: tuple(values) for name, values in targets.items()}
        self.foreground_probability = foreground_probability
        self.samples_per_epoch = samples_per_epoch
        self.seed = seed
        self.margin = (0,) * len(self.patch_size) if margin is None else tuple(margin)
        self.outside = outside
        self._pass: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    @property
    def data(self) -> list[Case]:
        """The cases as they are listed (MONAI's `train#dataset#data`)."""
        return self.cases.data

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __getitem__(self, asked: int | Sized) -> dict[str, Any]:
        sample, size = self._sized(asked)
        _, entry, label = self._labelled(sample)
        shape = tuple(entry.image.shape[1:])
        if len(shape) != len(size):
            raise DataError(Problem(entry.case, f"image of shape {shape}, but a patch of size {size}"))
        start = self._start(entry, shape, size, np.random.default_rng([self.seed, PATCH, sample]))
        return {
            "image": cut(entry.image, start, size, self.margin),
            "label": cut(label, start, size, self.margin, self.outside),
            "sample": torch.tensor(sample),  # takes shared memory where a lack of it is heard, as the rest does
            "case": entry.case,
        }

    def _sized(self, asked: int | Sized) -> Sized:
        return asked if isinstance(asked, tuple) else (asked, self.patch_size)

    def _labelled(self, sample: int) -> tuple[int, Entry, torch.Tensor]:
        """The number of the sample's case, its entry, and its label."""
        index = self._case(sample)
        entry = self.cases.entry(index)
        if entry.label is None:
            raise DataError(Problem(entry.case, "has no label", "train on labelled cases"))
        return index, entry, entry.label

    def _case(self, sample: int) -> int:
        number, position = divmod(sample, len(self.cases))
        if self._pass[0] != number:
            self._pass = (number, np.random.default_rng([self.seed, ORDER, number]).permutation(len(self.cases)))
        return int(self._pass[1][position])

    def _start(
        self, entry: Entry, shape: tuple[int, ...], size: Sequence[int], random: np.random.Generator
    ) -> list[int]:
        wanted = random.random() < self.foreground_probability
        return start_around(self._target_voxel(entry, shape, random) if wanted else None, shape, size, random)

    def _target_voxel(
        self, entry: Entry, shape: tuple[int, ...], random: np.random.Generator
    ) -> tuple[int, ...] | None:
        present = [
            held for values in self.targets.values() if (held := [entry.voxels[v] for v in values if v in entry.voxels])
        ]
        if not present:
            return None
        held = present[int(random.integers(len(present)))]
        number = int(random.integers(sum(count for count, _ in held)))
        for count, listed in held:
            if number < count:
                return tuple(int(i) for i in np.unravel_index(int(listed[number * len(listed) // count]), shape))
            number -= count
        raise AssertionError("counts do not add up")


def start_around(
    centre: tuple[int, ...] | None, shape: Sequence[int], size: Sequence[int], random: np.random.Generator
) -> list[int]:
    """Where a patch of that size around a voxel begins, or one anywhere."""
    room = [length - patch for length, patch in zip(shape, size, strict=True)]
    if centre is None:
        start = [int(random.integers(0, max(0, free) + 1)) for free in room]
    else:  # as near to the middle of the patch as the border of the volume allows
        start = [
            min(max(0, middle - patch // 2), max(0, free))
            for middle, patch, free in zip(centre, size, room, strict=True)
        ]
    return [-(-free // 2) if free < 0 else first for first, free in zip(start, room, strict=True)]


class SampleSequence(Sampler[int | Sized]):
    """The numbers of an epoch's samples, in order; with several ranks, each takes its own part of every batch.

    Where patches grow, the size of the epoch's patches comes with each number.

    Args:
        samples_per_epoch: over all ranks; a multiple of `batch_size * world_size`.
        batch_size: samples a rank takes at once.
        growth: how patches grow; None: they do not.
    """

    def __init__(
        self,
        samples_per_epoch: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        growth: PatchGrowth | None = None,
    ) -> None:
        if samples_per_epoch % (batch_size * world_size):
            raise ValueError(f"{samples_per_epoch} samples are no multiple of {batch_size} x {world_size} ranks")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}")
        self.samples_per_epoch = samples_per_epoch
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.growth = growth
        self.epoch, self.progress, self.skipped = 0, 0.0, 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch (from 0) the next iteration is."""
        self.epoch, self.skipped = epoch, 0

    def skip(self, batches: int) -> None:
        """Leave out the first batches of this epoch, which are done already."""
        self.skipped = batches

    def set_progress(self, progress: float) -> None:
        """What share of the run lies before the next iteration."""
        self.progress = progress

    def __len__(self) -> int:
        return self.samples_per_epoch // self.world_size

    def __iter__(self) -> Iterator[int | Sized]:
        if self.growth is None:
            yield from self._numbers()
        else:
            size = self.growth.size(self.progress)
            yield from ((number, size) for number in self._numbers())

    def _numbers(self) -> Iterator[int]:
        first = self.epoch * self.samples_per_epoch + self.rank * self.batch_size
        step = self.batch_size * self.world_size
        for batch in range(first + self.skipped * step, first + self.samples_per_epoch, step):
            yield from range(batch, batch + self.batch_size)


def cut(
    volume: torch.Tensor, start: Sequence[int], size: Sequence[int], margin: Sequence[int], outside: int = 0
) -> torch.Tensor:
    """A copy of the box from `start` on (below 0: `outside`) with its margin, the border repeated."""
    inside, pads, indices = [slice(None)], [], []
    for first, patch, extra, length in zip(start, size, margin, volume.shape[1:], strict=True):
        if length < patch:  # the whole axis; `first` is not above 0
            inside.append(slice(None))
            pads.append((-first, patch - length + first))
            indices.append(torch.arange(-extra, patch + extra).clamp_(0, patch - 1))
        else:
            low, high = max(0, first - extra), min(length, first + patch + extra)
            inside.append(slice(low, high))
            pads.append((0, 0))
            indices.append(torch.arange(first - extra, first + patch + extra).clamp_(low, high - 1) - low)
    box = volume[tuple(inside)]
    if any(before or after for before, after in pads):
        box = F.pad(box, [number for pair in reversed(pads) for number in pair], value=outside)
    for axis, index in enumerate(indices, start=1):
        if len(index) != box.shape[axis]:
            box = box.index_select(axis, index)
    return box.clone(memory_format=torch.contiguous_format)
