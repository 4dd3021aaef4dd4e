"""Maps beside a mask, on the native grid: probabilities, entropy, and how far the members of an ensemble disagree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from medseg.core.labels import Labels
from medseg.inference.postprocess import MIB, covered, index_map, rearrange, sample, slice_bytes, whole_voxels

LEVELS = 32767  # a map holds 0 to 1 in int16, half the size of float32: steps of 0.00003


@dataclass(frozen=True)
class GridLogits:
    """Logits `(K, *spatial)` on the grid of `affine`; of an ensemble the mean of so many `members`.

    `moments` `(2T, *spatial)`: mean and variance of each target's probability over the members (see `Moments`).
    """

    logits: Tensor
    affine: Any
    moments: Tensor | None = None
    members: int = 1


class Moments:
    """Mean and variance (of the population) of each target's probability over members that come one at a time."""

    def __init__(self, labels: Labels) -> None:
        self.labels, self.count = labels, 0
        self.mean = self.squares = torch.empty(0)

    def add(self, logits: Tensor) -> None:
        """Take in a member's logits `(K, *spatial)` (Welford 1962: equal members have a variance of exactly 0)."""
        values = probabilities(logits, self.labels)[target_channels(self.labels)]
        self.count += 1
        if self.count == 1:
            self.mean, self.squares = values, torch.zeros_like(values)
            return
        change = values - self.mean
        self.mean += change / self.count
        self.squares += change * (values - self.mean)

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and variance, `(T, *spatial)` each."""
        return self.mean, self.squares / self.count


def target_channels(labels: Labels) -> list[int]:
    """The channel of each of `labels.targets`, in their order."""
    names = list(labels.channels)
    return [names.index(name) for name in labels.targets]


def probabilities(logits: Tensor, labels: Labels) -> Tensor:
    """`(K, *spatial)` logits -> probabilities: softmax over classes, or a sigmoid for each region."""
    return logits.sigmoid() if labels.regions else logits.softmax(0)


def entropy(logits: Tensor, labels: Labels) -> Tensor:
    """`(K, *spatial)` logits -> `(*spatial)` from 0 (certain) to 1 (all classes alike).

    Classes: `-sum p log p / log K`, the predictive entropy of an ensemble (Lakshminarayanan et al. 2017, section 3.5)
    over its largest value. Regions: the mean of each region's entropy in bits.
    """
    if labels.regions:
        p = logits.sigmoid()
        return -(p * logsigmoid(logits) + (1 - p) * logsigmoid(-logits)).mean(0) / log(2)
    logs = logits.log_softmax(0)
    return -(logs.exp() * logs).sum(0) / log(max(len(logits), 2))


def map_names(labels: Labels, probabilities: bool = False, uncertainty: bool = False, members: int = 1) -> list[str]:
    """The maps of a case, in the order of `native_maps`; a target's name without what a file name should not hold.

    Disagreement is a map of several members only.
    """
    names: list[str] = []
    for target in labels.targets if probabilities else ():
        name = "probability_" + re.sub(r"[^\w.+-]+", "_", target)
        while name.casefold() in (other.casefold() for other in names):
            name += "_"
        names.append(name)
    return names + ["entropy"] * uncertainty + ["disagreement"] * (uncertainty and members > 1)


def native_maps(
    grids: Sequence[GridLogits],
    native_affine: Any,
    native_shape: Sequence[int],
    labels: Labels,
    *,
    probabilities: bool = False,
    uncertainty: bool = False,
    memory_mib: float = 512,
) -> Tensor:
    """The maps of `map_names`, `(N, *native_shape)` int16 from 0 to `LEVELS`, on the CPU.

    They are of the logits that the mask is made of, sampled at the same places (see `to_native`, `mean_to_native`), a
    slab at a time so that no more than `memory_mib` is held beside the result; 0 outside the preprocessed grid.

    Disagreement is the largest over targets of `sqrt(mean over members of (p - mean p)^2)`, from 0 to 0.5: the standard
    deviation of predicted probabilities as uncertainty (Leibig et al. 2017), of the members of a deep ensemble. The
    moments of members on one grid are sampled from that grid; members on several grids are pooled at each native voxel.
    """
    native_shape = tuple(int(length) for length in native_shape)
    asked: dict[str, Any] = {"labels": labels, "with_probabilities": probabilities, "with_entropy": uncertainty}
    spread = uncertainty and all(grid.moments is not None for grid in grids)
    count = probabilities * len(labels.targets) + uncertainty + spread
    maps = torch.zeros((count, *native_shape), dtype=torch.int16)
    places = [index_map(grid.affine, native_affine, grid.logits.ndim - 1) for grid in grids]
    channels = 3 * len(labels.channels) + spread * 4 * len(labels.targets)  # with what is made of them on the way
    exact = whole_voxels(*places[0], native_shape) if len(grids) == 1 else None
    if exact is not None:
        (grid,) = grids
        shape = grid.logits.shape[1:]
        found = torch.empty((count, *shape), dtype=torch.int16)
        thickness = max(1, int(memory_mib * MIB / (4 * channels * max(shape[1:].numel(), 1))))
        for start in range(0, shape[0], thickness):
            part = slice(start, start + thickness)
            variance = None if not spread or grid.moments is None else grid.moments.chunk(2)[1][:, part]
            found[:, part] = _levels(grid.logits[:, part], variance, **asked)
        for number, one in enumerate(found):
            maps[number] = rearrange(one, *exact, native_shape)
        return maps
    box = covered(places, [grid.logits.shape[1:] for grid in grids], native_shape)
    if box is None:
        return maps
    thickness = max(1, int(memory_mib * MIB / sum(slice_bytes(matrix, channels, box) for matrix, _ in places)))
    for start in range(box[0].start, box[0].stop, thickness):
        slab = (slice(start, min(start + thickness, box[0].stop)), *box[1:])
        size = tuple(span.stop - span.start for span in slab)
        device = grids[0].logits.device
        total = torch.zeros(len(labels.channels), *size, device=device)
        inside = torch.zeros(size, device=device)
        parts: list[tuple[Tensor, Tensor]] = []
        for grid, (matrix, offset) in zip(grids, places, strict=True):
            where = (matrix, offset + matrix @ [span.start for span in slab], size)
            values, outside = sample(grid.logits, *where)
            total += values.masked_fill_(outside, 0)
            inside += ~outside
            if spread and grid.moments is not None:
                parts.append((sample(grid.moments, *where)[0], ~outside * grid.members))
        variance = _pooled(parts) if spread else None
        levels = _levels(total.div_(inside.clamp(min=1)), variance, **asked)
        maps[(slice(None), *slab)] = levels.masked_fill_((inside == 0).cpu(), 0)
    return maps


def _pooled(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """The variance `(T, *size)` of members in groups, of pairs: moments `(2T, *size)`, members at each voxel."""
    members = torch.stack([count for _, count in parts]).sum(0).clamp(min=1)
    split = [(*moments.chunk(2), count / members) for moments, count in parts]
    mean = sum((share * means for means, _, share in split), torch.zeros_like(split[0][0]))
    within_and_between = (share * (variance + (means - mean) ** 2) for means, variance, share in split)
    return sum(within_and_between, torch.zeros_like(mean))


def _levels(
    logits: Tensor, variance: Tensor | None, *, labels: Labels, with_probabilities: bool, with_entropy: bool
) -> Tensor:
    """`(N, *size)` int16 on the CPU, of logits `(K, *size)` and perhaps the variance `(T, *size)`."""
    maps = list(probabilities(logits, labels)[target_channels(labels)]) if with_probabilities else []
    if with_entropy:
        maps.append(entropy(logits, labels))
    if variance is not None:
        maps.append(variance.amax(0).clamp(min=0).sqrt())
    return torch.stack([(one.clamp(0, 1) * LEVELS).round_().to(torch.int16).cpu() for one in maps])
