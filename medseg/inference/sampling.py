"""Logits at the positions of another grid's voxels, linear between their own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ALONG_AXES_VOXELS = 1e-4  # positions in float32 are no more exact over a thousand voxels


def sample(logits: Tensor, matrix: np.ndarray, offset: np.ndarray, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Logits `(K, *size)` at `matrix @ index + offset`, linear, and where that lies outside `(*size)`.

    Outside it is the nearest logit. Where the axes of the grids are parallel one is sampled after the other, at a sixth
    of the time and without a position of each voxel.
    """
    source = np.abs(matrix).argmax(0)  # the logits' axis along which each axis of the result runs
    beside = matrix.copy()
    beside[source, range(len(size))] = 0
    if len(set(source)) < len(size) or (np.abs(beside) @ size > ALONG_AXES_VOXELS).any():
        return _sample_anywhere(logits, matrix, offset, size)
    values = logits.permute(0, *(source + 1).tolist())
    outside = torch.zeros(size, dtype=torch.bool, device=logits.device)
    positions = [matrix[row, axis] * np.arange(size[axis]) + offset[row] for axis, row in enumerate(source)]
    for axis in np.argsort(np.array(size) / values.shape[1:]).tolist():  # what makes it smaller comes first
        position, length = positions[axis], values.shape[axis + 1]
        shape = [-1 if other == axis else 1 for other in range(len(size))]
        beyond = (position < -0.5) | (position > length - 0.5)
        outside |= torch.from_numpy(beyond).to(outside.device).view(shape)
        values = _sample_along(values, axis + 1, np.clip(position, 0, length - 1))
    return values, outside


def _sample_along(values: Tensor, axis: int, position: np.ndarray) -> Tensor:
    """Linear along one axis, float32, at positions from its first to its last voxel."""
    below = np.floor(position)
    weight = torch.from_numpy(position - below).to(values.device, torch.float32)
    index = torch.from_numpy(below).to(values.device, torch.int64)
    lower = values.index_select(axis, index).float()
    if not weight.any():
        return lower
    upper = values.index_select(axis, (index + 1).clamp_(max=values.shape[axis] - 1)).float()
    return lower.lerp_(upper, weight.view([-1 if other == axis else 1 for other in range(values.ndim)]))


def _sample_anywhere(
    logits: Tensor, matrix: np.ndarray, offset: np.ndarray, size: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The same for any matrix: each voxel's position, and PyTorch's sampling of it."""
    device = logits.device
    axes = [torch.arange(length, dtype=torch.float32, device=device) for length in size]
    # Sums, not a product of matrices: a GPU may compute that in TF32, a tenth of a voxel off.
    position = torch.stack(
        [_weighted_sum(axes, row) + float(start) for row, start in zip(matrix, offset, strict=True)], -1
    )
    shape = torch.tensor(logits.shape[1:], dtype=torch.float32, device=device)
    outside = ((position < -0.5) | (position > shape - 0.5)).any(-1)
    for axis in range(len(size)):  # look only at the part of the logits that this slab needs
        length = logits.shape[axis + 1]
        first = min(max(int(position[..., axis].min()), 0), length - 1)
        last = min(max(int(position[..., axis].max()) + 1, first), length - 1)
        logits = logits.narrow(axis + 1, first, last - first + 1)
        position[..., axis] -= first
        shape[axis] = last - first + 1
    grid = ((position * 2 + 1) / shape - 1).flip(-1).unsqueeze(1)
    # grid_sample works in parallel over its batch only, so every slice of the slab is one; the logits are not copied.
    images = logits.float()[None].expand(size[0], *logits.shape)
    values = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return values.squeeze(2).movedim(0, 1), outside


def _weighted_sum(axes: Sequence[Tensor], weights: np.ndarray) -> Tensor:
    """Of vectors, one along each axis: `(*size)`."""
    dims = len(axes)
    terms = [
        (axis * float(weight)).view([-1 if k == number else 1 for k in range(dims)])
        for number, (axis, weight) in enumerate(zip(axes, weights, strict=True))
    ]
    return reduce(torch.add, terms)
