"""Where the voxels of patches come from, and their one interpolation.

On a CPU this is some 8 times faster than `affine_grid` and `grid_sample` (measured on 40 x 56 x 40 voxels), because the
coordinates of a map are sums of three short vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from medseg.data.training.augment.base import Spatial, Transform, Warp, on_device


def margin(patch_size: Sequence[int], transforms: Iterable[Transform]) -> list[int]:
    """Voxels around a patch, a side, that the transforms fill it from; at most three tenths of it."""
    halves = [size / 2 for size in patch_size]
    reach = halves
    for transform in transforms:
        if isinstance(transform, Spatial) and transform.probability:
            reach = transform.reach(reach)
    pairs = zip(reach, halves, strict=True)
    return [min(int(np.ceil(far - half)), int(np.ceil(0.6 * half))) for far, half in pairs]


def combined(warps: Sequence[Warp]) -> Warp:
    """One map of several, the last one next to the output."""
    matrix: np.ndarray | None = None
    for warp in warps:
        if warp.matrix is not None:
            matrix = warp.matrix if matrix is None else matrix @ warp.matrix
    waves = tuple(wave for warp in warps for wave in warp.waves)
    shifts = [warp.shift for warp in warps if warp.shift is not None]
    shift = np.sum(shifts, axis=0) if shifts else None
    if matrix is None and (waves or shift is not None):
        matrix = np.eye(waves[0].shape[1] if waves else len(shifts[0]))
    return Warp(matrix, waves, tuple(axis for warp in warps for axis in warp.flips), shift)


def resampled(
    image: torch.Tensor,
    label: torch.Tensor,
    warps: Sequence[Warp],
    size: tuple[int, ...] | None,
    patch_size: tuple[int, ...] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The middle, of that size, of images and labels `(B, C, *spatial)` each under its map.

    Args:
        patch_size: of a patch that waves are counted in; default: what is returned.
    """
    shape = tuple(image.shape[2:])
    size = shape if size is None else size
    if len(warps) == 1 and warps[0].matrix is None:
        first = _first(shape, size)
        middle = (slice(None), slice(None), *(slice(start, start + m) for start, m in zip(first, size, strict=True)))
        axes = [axis + 2 for axis in warps[0].flips]
        return image[middle].flip(axes), label[middle].flip(axes)
    positions = _positions(warps, shape, size, patch_size or size, image.device)
    return _linear(image, positions), _nearest(label, positions)


def _first(shape: Sequence[int], size: Sequence[int]) -> list[int]:
    """Where the middle of that size begins."""
    return [(n - m) // 2 for n, m in zip(shape, size, strict=True)]


def _positions(
    warps: Sequence[Warp], shape: Sequence[int], size: Sequence[int], patch: Sequence[int], device: torch.device
) -> list[torch.Tensor]:
    """For every voxel of the output, its position on each axis of the input, `(B, *size)` each, kept inside."""
    dims = len(shape)
    terms = on_device(np.stack([_terms(warp, shape, size, patch) for warp in warps]), device)
    terms = terms.split(list(size) * dims, dim=1)
    positions = []
    for axis, n in enumerate(shape):
        position: torch.Tensor | None = None
        for other in range(dims):
            term = terms[axis * dims + other].view(-1, *(size[other] if k == other else 1 for k in range(dims)))
            position = term if position is None else position + term
        assert position is not None
        positions.append(position.clamp(0, n - 1))
    return positions


def _terms(warp: Warp, shape: Sequence[int], size: Sequence[int], patch: Sequence[int]) -> np.ndarray:
    """For each axis of the input and each of the output, one after the other: what the latter adds to the position."""
    matrix = np.eye(len(shape)) if warp.matrix is None else warp.matrix.copy()
    matrix[:, list(warp.flips)] *= -1  # the output's axis runs backwards
    terms = []
    for axis, (n, m, first) in enumerate(zip(shape, size, _first(shape, size), strict=True)):
        # Without a matrix no voxel is interpolated, also where the margin is an odd number of voxels.
        centre = (n - 1) / 2 if warp.matrix is not None else first + (m - 1) / 2
        if warp.shift is not None:
            centre += warp.shift[axis]
        for other, length in enumerate(size):
            offset = np.arange(length) - (length - 1) / 2
            term = offset * matrix[axis, other] + (centre if other == 0 else 0)
            for amplitude, waves, phase in (wave[:, axis, other] for wave in warp.waves):
                term = term + amplitude * np.sin(2 * np.pi * (waves * offset / patch[other] + phase))
            terms.append(term)
    return np.concatenate(terms)


def _linear(image: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    shape = image.shape[2:]
    corner = _sample_numbers(image)  # becomes the flat index, in all samples of a channel, of the voxel below
    fractions, strides = [], []
    for axis, (position, n) in enumerate(zip(positions, shape, strict=True)):
        below = position.to(torch.int32).clamp_(max=max(n - 2, 0))
        fractions.append((position - below).view(-1))
        strides.append(int(np.prod(shape[axis + 1 :])) if n > 1 else 0)
        corner = below.add_(corner * n)
    corner = corner.view(-1)

    def between(voxels: torch.Tensor, axis: int, shift: int) -> torch.Tensor:
        if axis == len(shape):
            return voxels.index_select(0, corner + shift)
        low = between(voxels, axis + 1, shift)
        return low.lerp_(between(voxels, axis + 1, shift + strides[axis]), fractions[axis])

    channels = [between(channel.reshape(-1), 0, 0).view(positions[0].shape) for channel in image.unbind(1)]
    return torch.stack(channels, dim=1)


def _nearest(label: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    index = _sample_numbers(label)
    for position, n in zip(positions, label.shape[2:], strict=True):
        index = (position + 0.5).to(torch.int32).add_(index * n)
    flat = index.view(-1)
    channels = [channel.reshape(-1).index_select(0, flat).view(index.shape) for channel in label.unbind(1)]
    return torch.stack(channels, dim=1)


def _sample_numbers(image: torch.Tensor) -> torch.Tensor:
    """0, 1, ... of the samples, `(B, 1, ...)` with a 1 for each spatial axis."""
    numbers = torch.arange(len(image), dtype=torch.int32, device=image.device)
    return numbers.view(-1, *[1] * (image.ndim - 2))
