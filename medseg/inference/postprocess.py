"""From logits on the preprocessed grid to a mask on the image's own grid, with bounded memory."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from medseg.core.labels import Labels
from medseg.inference.sampling import sample

# Headers store affines as float32: a grid that is nowhere further off than this many voxels is the same grid.
SAME_GRID_VOXELS = 0.01
MIB = 2**20


def mask_dtype(labels: Labels) -> torch.dtype:
    """The smallest of uint8, int16 and int32 that holds every value a mask can have."""
    values = labels.mask_values.values() if labels.regions else labels.values
    smallest, largest = min(0, *values), max(0, *values)
    if smallest >= 0 and largest <= 255:
        return torch.uint8
    return torch.int16 if smallest >= -(2**15) and largest < 2**15 else torch.int32


def logits_to_mask(logits: Tensor, labels: Labels) -> Tensor:
    """`(K, *spatial)` -> label values `(*spatial)`, in the smallest integer type.

    Classes: the value of the largest logit. Regions: each region above probability 0.5 paints its `region_values`
    entry, in order, so that later regions lie on top.
    """
    dtype = mask_dtype(labels)
    if not labels.regions:
        # The first of equals wins, as in argmax, at a tenth of its time and without its int64 map.
        highest = logits[0].clone()
        mask = torch.full_like(highest, labels.values[0], dtype=dtype)
        for channel, value in zip(logits[1:], labels.values[1:], strict=True):
            mask.masked_fill_(channel > highest, value)
            torch.maximum(highest, channel, out=highest)
        return mask
    mask = torch.zeros(logits.shape[1:], dtype=dtype, device=logits.device)
    for region, value in zip(logits, labels.mask_values.values(), strict=True):
        mask[region > 0] = value
    return mask


def to_native(
    logits: Tensor,
    affine: Any,
    native_affine: Any,
    native_shape: Sequence[int],
    labels: Labels,
    memory_mib: float = 512,
) -> Tensor:
    """Logits `(K, *spatial)` on the grid of `affine` -> mask `(*native_shape)` on the grid of `native_affine`.

    The logits are sampled linearly at the physical position of every native voxel, a slab at a time, so that never
    more than `memory_mib` is held; what lies outside the preprocessed grid is background. Where the grids differ only
    by flips, a permutation of axes and a shift of whole voxels nothing is interpolated: the result is exact.

    Args:
        affine: 4x4 (or 3x3 in two dimensions), voxel index to mm.
        native_affine: the same for the image's own grid.
    """
    native_shape = tuple(int(length) for length in native_shape)
    matrix, offset = index_map(affine, native_affine, logits.ndim - 1)
    exact = whole_voxels(matrix, offset, native_shape)
    if exact is not None:
        return rearrange(logits_to_mask(logits, labels), *exact, native_shape)
    mask = torch.zeros(native_shape, dtype=mask_dtype(labels), device=logits.device)
    inside = _inside(matrix, offset, logits.shape[1:], native_shape)
    if any(span.start >= span.stop for span in inside):
        return mask
    thickness = max(1, int(memory_mib * MIB / slice_bytes(matrix, logits.shape[0], inside)))
    for start in range(inside[0].start, inside[0].stop, thickness):
        slab = (slice(start, min(start + thickness, inside[0].stop)), *inside[1:])
        size = tuple(span.stop - span.start for span in slab)
        values, outside = sample(logits, matrix, offset + matrix @ [span.start for span in slab], size)
        mask[slab] = logits_to_mask(values, labels).masked_fill_(outside, 0)
    return mask


def mean_to_native(
    members: Sequence[tuple[Tensor, Any]],
    native_affine: Any,
    native_shape: Sequence[int],
    labels: Labels,
    memory_mib: float = 512,
) -> Tensor:
    """As `to_native`, of the mean of several logits `(K, *spatial)`, each on a grid of its own (logits, affine).

    A voxel outside some of the grids has the mean of the others; outside all of them it is background. The slabs of all
    members together keep to `memory_mib`.
    """
    native_shape = tuple(int(length) for length in native_shape)
    logits = [one for one, _ in members]
    maps = [index_map(affine, native_affine, one.ndim - 1) for one, affine in members]
    mask = torch.zeros(native_shape, dtype=mask_dtype(labels), device=logits[0].device)
    whole = covered(maps, [one.shape[1:] for one in logits], native_shape)
    if whole is None:
        return mask
    bytes_a_slice = sum(slice_bytes(matrix, one.shape[0], whole) for (matrix, _), one in zip(maps, logits, strict=True))
    thickness = max(1, int(memory_mib * MIB / bytes_a_slice))
    for start in range(whole[0].start, whole[0].stop, thickness):
        slab = (slice(start, min(start + thickness, whole[0].stop)), *whole[1:])
        size = tuple(span.stop - span.start for span in slab)
        total = torch.zeros(logits[0].shape[0], *size, device=mask.device)
        count = torch.zeros(size, device=mask.device)
        for one, (matrix, offset) in zip(logits, maps, strict=True):
            values, outside = sample(one, matrix, offset + matrix @ [span.start for span in slab], size)
            total += values.masked_fill_(outside, 0)
            count += ~outside
        mask[slab] = logits_to_mask(total.div_(count.clamp(min=1)), labels).masked_fill_(count == 0, 0)
    return mask


def index_map(affine: Any, native_affine: Any, spatial_dims: int) -> tuple[np.ndarray, np.ndarray]:
    """`matrix @ native index + offset` = index on the preprocessed grid (both in voxels, float64)."""
    grid, native = _affine(affine, spatial_dims), _affine(native_affine, spatial_dims)
    full = np.linalg.inv(grid) @ native
    return full[:spatial_dims, :spatial_dims], full[:spatial_dims, -1]


def whole_voxels(
    matrix: np.ndarray, offset: np.ndarray, native_shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """The integer map next to this one, if it is a signed permutation and nowhere further off than 0.01 voxel."""
    rounded, shift = np.rint(matrix).astype(int), np.rint(offset).astype(int)
    if not (np.array_equal(np.abs(rounded).sum(0), np.ones(len(matrix))) and (np.abs(rounded).sum(1) == 1).all()):
        return None
    reach = np.maximum(np.asarray(native_shape) - 1, 0)
    error = np.abs(matrix - rounded) @ reach + np.abs(offset - shift)
    return (rounded, shift) if (error <= SAME_GRID_VOXELS).all() else None


def covered(
    maps: Sequence[tuple[np.ndarray, np.ndarray]], shapes: Sequence[Sequence[int]], native_shape: Sequence[int]
) -> list[slice] | None:
    """The box of native voxels that holds every one inside any of the grids (index map, shape); None: there is none."""
    boxes = [_inside(*pair, shape, native_shape) for pair, shape in zip(maps, shapes, strict=True)]
    boxes = [box for box in boxes if all(span.start < span.stop for span in box)]
    if not boxes:
        return None
    return [slice(min(s.start for s in spans), max(s.stop for s in spans)) for spans in zip(*boxes, strict=True)]


def slice_bytes(matrix: np.ndarray, channels: int, inside: Sequence[slice]) -> int:
    """Bytes that sampling one slice of the box holds: the values, half-made copies, coordinates."""
    reach = np.maximum(np.abs(matrix).max(0), 1)  # a slab of a coarse native grid needs more slices of the fine one
    voxels = reach[0] * np.prod([(span.stop - span.start) * r for span, r in zip(inside[1:], reach[1:], strict=True)])
    return int(4 * (3 * channels + 3 * len(matrix)) * voxels)


def _affine(affine: Any, spatial_dims: int) -> np.ndarray:
    values = np.asarray(torch.as_tensor(affine).cpu(), dtype=np.float64)
    keep = [*range(spatial_dims), -1]
    return values[np.ix_(keep, keep)]


def rearrange(mask: Tensor, matrix: np.ndarray, offset: np.ndarray, native_shape: tuple[int, ...]) -> Tensor:
    """Permute, flip, crop and pad with background: `native[i] = mask[matrix @ i + offset]`."""
    source = [int(np.flatnonzero(matrix[:, axis])[0]) for axis in range(len(native_shape))]
    mask = mask.permute(source)
    native = torch.zeros(native_shape, dtype=mask.dtype, device=mask.device)
    take, put, flips = [], [], []
    for axis, row in enumerate(source):
        length, sign, shift = mask.shape[axis], int(matrix[row, axis]), int(offset[row])
        if sign < 0:  # index on the flipped axis: length - 1 - (shift - i)
            flips.append(axis)
            shift = length - 1 - shift
        first, last = max(0, -shift), min(native_shape[axis], length - shift)
        if first >= last:
            return native
        put.append(slice(first, last))
        take.append(slice(first + shift, last + shift))
    if flips:
        mask = mask.flip(flips)
    native[tuple(put)] = mask[tuple(take)]
    return native


def _inside(
    matrix: np.ndarray, offset: np.ndarray, shape: Sequence[int], native_shape: Sequence[int]
) -> tuple[slice, ...]:
    """The box of native voxels that holds every one inside the preprocessed grid (its voxels' outer faces)."""
    corners = np.stack(np.meshgrid(*[(-0.5, length - 0.5) for length in shape], indexing="ij"), -1)
    native = (corners.reshape(-1, len(matrix)) - offset) @ np.linalg.inv(matrix).T
    lower, upper = np.floor(native.min(0)).astype(int), np.ceil(native.max(0)).astype(int) + 1
    return tuple(
        slice(max(0, int(low)), min(length, int(high)))
        for low, high, length in zip(lower, upper, native_shape, strict=True)
    )


class LogitsToMaskd(MapTransform):
    """Replace the logits `(K, *spatial)` of a case by its mask `(1, *native_shape)` on the grid of its file.

    The mask is on the CPU, whatever the logits are on: what cleans, writes and scores it is NumPy.

    A list of MetaTensors (of an ensemble whose members see the case on different grids) is averaged on the file's grid.

    Reads the preprocessed grid from the logits' own affine (a `MetaTensor`) or else the image's, and the file's grid
    from `native_affine` and `native_shape`.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        *,
        labels: Labels,
        memory_mib: float = 512,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = labels
        self.memory_mib = memory_mib
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        for key in self.key_iterator(case):
            logits, native_affine = case[key], torch.as_tensor(case["native_affine"]).cpu()
            native = (native_affine, case["native_shape"], self.labels, self.memory_mib)
            if isinstance(logits, list):  # of several networks, on grids of their own
                mask = mean_to_native([(_plain(one), one.affine) for one in logits], *native)
            else:
                grid = logits if isinstance(logits, MetaTensor) else case[self.image_key]
                mask = to_native(_plain(logits), grid.affine, *native)
            case[key] = MetaTensor(mask[None].cpu(), affine=native_affine)
        return case


def _plain(logits: Tensor) -> Tensor:
    return logits.as_tensor() if isinstance(logits, MetaTensor) else torch.as_tensor(logits)
