"""Distances between the surfaces of two masks: robust Hausdorff distance (HD95) and surface Dice, in millimetres.

The definitions are those of DeepMind's surface-distance (Nikolov et al. 2021, "Clinically applicable segmentation of
head and neck anatomy for radiotherapy", J Med Internet Res 23(7):e26151; code Apache-2.0): surface elements sit on the
corners between voxels, each with the area that marching cubes gives its 2x2x2 neighbourhood (in 2D: the length that
marching squares gives its 2x2 neighbourhood), so that percentiles and overlaps are shares of *area*, not of voxels.

Here only surface points are compared, through a k-d tree, where the original transforms two whole volumes: the same
numbers, and a stray false positive in the far corner of a volume costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from medseg.core.boxes import bounding_box

# Marching cubes up to mirroring, swapping axes and swapping inside with outside: neighbourhood (bits in C order)
# -> unsigned normals of its triangles, in eighths; the length of a normal is the area of its triangle.
_TRIANGLES: dict[int, list[tuple[int, int, int]]] = {
    0b00000000: [],
    0b00000001: [(1, 1, 1)],
    0b00000011: [(2, 2, 0), (2, 2, 0)],
    0b00000110: [(1, 1, 1), (1, 1, 1)],
    0b00000111: [(4, 0, 0), (2, 2, 2), (1, 1, 1)],
    0b00001111: [(4, 0, 0), (4, 0, 0)],
    0b00010110: [(1, 1, 1), (1, 1, 1), (1, 1, 1)],
    0b00010111: [(2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1)],
    0b00011000: [(1, 1, 1), (1, 1, 1)],
    0b00011001: [(0, 2, 2), (0, 2, 2), (1, 1, 1)],
    0b00011011: [(0, 2, 2), (2, 0, 2), (3, 3, 3), (1, 1, 1)],
    0b00011110: [(4, 0, 0), (2, 2, 2), (1, 1, 1), (1, 1, 1)],
    0b00111100: [(2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0)],
    0b01101001: [(1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)],
}


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance (mm) of every surface element to the other surface, nearest first, and its area (mm^2; in 2D mm)."""

    prediction_mm: np.ndarray
    prediction_area: np.ndarray
    truth_mm: np.ndarray
    truth_area: np.ndarray

    def hausdorff_mm(self, percentile: float = 95.0) -> float:
        """The larger of the two distances within which `percentile` % of a surface lies from the other one."""
        return max(
            _area_percentile(self.prediction_mm, self.prediction_area, percentile),
            _area_percentile(self.truth_mm, self.truth_area, percentile),
        )

    def dice(self, tolerance_mm: float) -> float:
        """Share of both surfaces that lies within `tolerance_mm` of the other one, 0 to 1."""
        near = self.prediction_area[self.prediction_mm <= tolerance_mm].sum()
        near += self.truth_area[self.truth_mm <= tolerance_mm].sum()
        return float(near / (self.prediction_area.sum() + self.truth_area.sum()))


def surface_distances(prediction: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Compare the surfaces of two boolean masks (*spatial), 2D or 3D, both with at least one voxel.

    Raises:
        ValueError: shapes or spacing do not fit together, or a mask is empty (it has no surface).
    """
    if prediction.shape != truth.shape or truth.ndim not in (2, 3) or len(spacing_mm) != truth.ndim:
        raise ValueError(
            f"need two masks of one shape in 2D or 3D and one spacing an axis: got {prediction.shape}, {truth.shape} "
            f"and {len(spacing_mm)} spacings"
        )
    if not (prediction.any() and truth.any()):
        raise ValueError("an empty mask has no surface: decide on missed and absent structures before")
    spacing = tuple(float(step) for step in spacing_mm)
    box = bounding_box(prediction | truth)
    codes_prediction, codes_truth = _neighbourhoods(prediction[box]), _neighbourhoods(truth[box])
    areas = _areas(spacing)
    inside = len(areas) - 1
    surface_prediction = (codes_prediction != 0) & (codes_prediction != inside)
    surface_truth = (codes_truth != 0) & (codes_truth != inside)
    prediction_mm = _nearest(surface_prediction, surface_truth, spacing)
    truth_mm = _nearest(surface_truth, surface_prediction, spacing)
    return SurfaceDistances(
        *_sorted(prediction_mm, areas[codes_prediction[surface_prediction]]),
        *_sorted(truth_mm, areas[codes_truth[surface_truth]]),
    )


def _neighbourhoods(mask: np.ndarray) -> np.ndarray:
    """Which of the 4 or 8 voxels around each corner are set, as the bits of a uint8: shape + 1 along every axis."""
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([size + 1 for size in mask.shape], dtype=np.uint8)
    corners = list(product((0, 1), repeat=mask.ndim))
    for bit, corner in enumerate(reversed(corners)):
        window = tuple(slice(start, start + size) for start, size in zip(corner, codes.shape, strict=True))
        codes |= padded[window] << np.uint8(bit)
    return codes


def _nearest(surface: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Distance in mm from every point of `surface`, in C order, to the nearest point of `other`."""
    if 10 * np.count_nonzero(surface) > surface.size > 100_000:  # noise rather than a surface: transform the volume
        return distance_transform_edt(~other, sampling=spacing)[surface]
    points, targets = np.argwhere(surface), np.argwhere(other)
    distances = np.zeros(len(points))
    apart = ~other[surface]  # points that lie on both surfaces need no search
    if apart.any():
        tree = cKDTree(targets * np.asarray(spacing), balanced_tree=False, compact_nodes=False)
        _, index = tree.query(points[apart] * np.asarray(spacing))
        # From whole steps, not from the tree's rounded coordinates: a distance equal to the tolerance must stay so.
        steps = (points[apart] - targets[index]) * np.asarray(spacing)
        distances[apart] = np.sqrt(np.sum(steps * steps, axis=1))
    return distances


def _sorted(distances: np.ndarray, areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((areas, distances))
    return distances[order], areas[order]


def _area_percentile(distances: np.ndarray, areas: np.ndarray, percentile: float) -> float:
    share = np.cumsum(areas) / np.sum(areas)
    index = int(np.searchsorted(share, percentile / 100))
    return float(distances[min(index, len(distances) - 1)])


@cache
def _areas(spacing: tuple[float, ...]) -> np.ndarray:
    """Area in mm^2 (in 2D: length in mm) of every neighbourhood's surface element, for voxels of `spacing`."""
    if len(spacing) == 2:
        rows, columns = spacing
        diagonal = 0.5 * np.hypot(rows, columns)
        lengths = np.full(16, diagonal)  # one voxel, or all but one, of the four
        lengths[[0b0000, 0b1111]] = 0
        lengths[[0b0011, 0b1100]] = columns
        lengths[[0b0101, 0b1010]] = rows
        lengths[[0b0110, 0b1001]] = 2 * diagonal
        return lengths
    faces = np.prod(spacing) / np.asarray(spacing)  # mm^2 of the voxel face across each axis
    areas = np.zeros(256)
    for code, normals in _TRIANGLES.items():
        corners = np.array([code >> (7 - bit) & 1 for bit in range(8)]).reshape(2, 2, 2)
        for axes in permutations(range(3)):
            turned = corners.transpose(axes)
            area = sum(np.linalg.norm(np.take(normal, axes) / 8 * faces) for normal in normals)
            for flips in product((1, -1), repeat=3):
                mirrored = turned[tuple(slice(None, None, flip) for flip in flips)].ravel()
                same = int("".join(map(str, mirrored)), 2)
                areas[[same, 255 - same]] = area
    return areas
