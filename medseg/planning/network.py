"""Patch, levels, strides and kernels of a U-Net for volumes of a given size and spacing: pure arithmetic.

The rules are nnU-Net's (Isensee et al. 2021, Nature Methods 18, 203-211, supplementary note 2) with three differences:
a patch lies inside nearly all volumes, since what is padded shifts the statistics of instance norm; no kernel reaches
across a few thick slices (nnU-Net trains a 2D network as well, and compares); every figure of cost can be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COARSEST = 4  # voxels along an axis at the coarsest resolution, at least
MOST_LEVELS = {2: 8, 3: 6}
LARGEST_PATCH = {2: 1024**2, 3: 192**3}  # voxels; a longer way from edge to edge is not worth its cost
ANISOTROPY = 2.0  # sides of a voxel that differ by more are treated apart: no stride, kernel 1
MAPS_A_VOXEL = 12  # feature maps that training keeps for each voxel and channel of a level; measured, see tests


@dataclass(frozen=True)
class Topology:
    """A U-Net and its patch. `strides` and `kernel_sizes` have one entry a level, the finest first."""

    patch_size: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]

    @property
    def is_flat(self) -> bool:
        """Whether no kernel reaches across some axis: slices along it meet in the statistics of the norms only."""
        return any(max(kernel) == 1 for kernel in zip(*self.kernel_sizes, strict=True))

    @property
    def steps(self) -> tuple[int, ...]:
        """The product of the strides along each axis: what a patch is a multiple of."""
        return tuple(math.prod(stride[axis] for stride in self.strides) for axis in range(len(self.patch_size)))

    def sizes(self) -> list[tuple[int, ...]]:
        """The patch at each level."""
        found, size = [], self.patch_size
        for stride in self.strides:
            size = tuple(math.ceil(length / step) for length, step in zip(size, stride, strict=True))
            found.append(size)
        return found

    def gmac(self, channels: int) -> float:
        """Multiplications of one forward pass of one patch, in 10^9: two convolutions a level on each side."""
        total, inner = 0.0, channels
        for level, (size, width, kernel) in enumerate(zip(self.sizes(), self.widths, self.kernel_sizes, strict=True)):
            both = math.prod(size) * math.prod(kernel)
            total += both * (inner * width + width * width)
            if level < len(self.widths) - 1:  # the decoder's, on the concatenated maps, and the way up to it
                total += both * 3 * width * width + math.prod(size) * width * self.widths[level + 1]
            inner = width
        return total / 1e9

    def activation_gib(self, bytes_a_value: int) -> float:
        """Memory of what a training step keeps of one patch for the backward pass, estimated."""
        values = sum(math.prod(size) * width for size, width in zip(self.sizes(), self.widths, strict=True))
        return values * MAPS_A_VOXEL * bytes_a_value / 2**30


def topology(patch_size: Sequence[int], spacing_mm: Sequence[float], base_width: int, widest: int) -> Topology:
    """Levels while an axis stays `COARSEST` voxels long; thick slices are neither halved nor convolved across.

    An axis is halved at a level when its voxels are by then no more than twice as long as the shortest, and its
    kernel is 3 from the first level on where they are, as nnU-Net's: so the voxels of the coarse levels are as nearly
    cubes as can be. Across an axis of a few thick slices no kernel reaches at all, as in a 2D network.

    Args:
        patch_size: of the network's input; every axis at least 1 voxel.
        spacing_mm: of the preprocessed voxels.
        base_width: channels of the finest level; they double with each.
        widest: channels that no level exceeds.
    """
    dims = len(patch_size)
    size, spacing = np.array(patch_size, dtype=int), np.array(spacing_mm, dtype=float)
    apart = (size < 2 * COARSEST) & (spacing > ANISOTROPY * spacing.min())  # too few slices to learn across them
    strides, kernels = [(1,) * dims], [_kernel(spacing)]
    while len(strides) < (MOST_LEVELS[dims]):
        long_enough = size >= 2 * COARSEST
        if not long_enough.any():
            break
        fine = spacing <= ANISOTROPY * spacing[long_enough].min()
        halved = long_enough & fine
        strides.append(tuple(2 if yes else 1 for yes in halved))
        size, spacing = np.where(halved, -(-size // 2), size), np.where(halved, 2 * spacing, spacing)
        # Once 3, a kernel stays 3: beside an axis too short to be halved again, the others soon have longer voxels.
        kernel = [max(before, now) for before, now in zip(kernels[-1], _kernel(spacing), strict=True)]
        kernels.append(tuple(1 if alone else length for alone, length in zip(apart, kernel, strict=True)))
    widths = tuple(min(base_width * 2**level, widest) for level in range(len(strides)))
    return Topology(tuple(int(n) for n in patch_size), widths, tuple(strides), tuple(kernels))


def inside(patch_size: Sequence[float], spacing_mm: Sequence[float], base_width: int, widest: int) -> Topology:
    """The network of the largest patch, a multiple of its strides along every axis, that is no larger than this one."""
    size = [max(1, int(length)) for length in patch_size]
    while True:
        found = topology(size, spacing_mm, base_width, widest)
        fitted = [max(step, length // step * step) for length, step in zip(size, found.steps, strict=True)]
        if fitted == size:
            return found
        size = [min(one, other) for one, other in zip(fitted, size, strict=True)]


def first_patch(shapes: np.ndarray, spacing_mm: Sequence[float]) -> list[int]:
    """A cube in millimetres, as large as can be used, cut to the lower quartile of the volumes (cases, axes)."""
    dims, spacing = shapes.shape[1], np.array(spacing_mm, dtype=float)
    room = np.maximum(np.floor(np.percentile(shapes, 25, axis=0)), 1)
    side_mm = (LARGEST_PATCH[dims] * spacing.prod()) ** (1 / dims)
    return [int(n) for n in np.minimum(np.maximum(np.round(side_mm / spacing), 1), room)]


def shrunk(
    found: Topology, shapes: np.ndarray, spacing_mm: Sequence[float], widest: int, least: int
) -> Topology | None:
    """The next smaller patch: one stride less along the axis that covers most of the volumes.

    None where every axis would be shorter than `least` voxels (or shorter than one stride).
    """
    middle = np.median(shapes, axis=0)
    order = np.argsort([-size / full for size, full in zip(found.patch_size, middle, strict=True)], kind="stable")
    for axis in order:
        size = list(found.patch_size)
        size[axis] -= found.steps[axis]
        if size[axis] >= max(least, found.steps[axis]):
            return inside(size, spacing_mm, found.widths[0], widest)
    return None


def _kernel(spacing: np.ndarray) -> tuple[int, ...]:
    return tuple(3 if yes else 1 for yes in spacing <= ANISOTROPY * spacing.min())
