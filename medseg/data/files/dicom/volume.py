"""One volume of the slices of a series: in the order of their places, at right angles, with their slopes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.data.files.dicom.frames import CONVERT, Frame
from medseg.data.files.dicom.pixels import stored_values
from medseg.data.files.formats import LPS

UNEVEN = 0.02  # share of the distance of slices by which one may be off: coordinates are written with few digits
TILT = 0.02  # how far slices may slide sideways, as a share of their distance
PARALLEL = 1e-3  # by which a coordinate of an axis may differ
SPACING = 1e-3  # share of a pixel by which its size may differ


def in_order(frames: Sequence[Frame], folder: Path) -> list[Frame]:
    """The slices along the normal of their plane.

    Raises:
        DataError: they do not form a regular volume: one is missing or there twice, unequal distances, sizes or planes.
    """
    first = frames[0]
    for one in frames[1:]:
        if (one.rows, one.columns) != (first.rows, first.columns):
            what = f"{one.name} has {one.columns} x {one.rows}, {first.name} {first.columns} x {first.rows} pixels"
            raise DataError(Problem(str(folder), f"slices of different sizes: {what}", "is a localiser among them?"))
        if np.abs(one.axes - first.axes).max() > PARALLEL:
            what = f"slices that are not parallel ({one.name}, {first.name})"
            raise DataError(Problem(str(folder), what, "is a localiser among them? give each series its own folder"))
        if not np.allclose(one.spacing, first.spacing, rtol=SPACING):
            sides = [" x ".join(f"{side:g}" for side in frame.spacing) for frame in (one, first)]
            what = f"pixels of different sizes: {sides[0]} mm in {one.name}, {sides[1]} mm in {first.name}"
            raise DataError(Problem(str(folder), what, "these are two scans: give each a folder of its own"))
    normal = np.cross(*first.axes)
    ordered = sorted(frames, key=lambda one: float(one.position @ normal))
    _check_distances(ordered, normal, folder)
    return ordered


def _check_distances(frames: Sequence[Frame], normal: np.ndarray, folder: Path) -> None:
    if len(frames) < 2:
        return
    along = _steps(frames) @ normal
    middle = float(np.sort(along)[(len(along) - 1) // 2])  # one that is there, also of two
    if along.min() < UNEVEN * max(middle, 1e-6):
        at = int(along.argmin())
        what = f"two slices at one place ({frames[at].name}, {frames[at + 1].name})"
        remedy = "a copy, or several echoes or times in one series: give each volume a folder"
        raise DataError(Problem(str(folder), what, remedy))
    if np.abs(along - middle).max() > UNEVEN * middle + 1e-3:
        at = int(np.abs(along - middle).argmax())
        what = f"{along[at]:.4g} mm between {frames[at].name} and {frames[at + 1].name}, {middle:.4g} elsewhere"
        raise DataError(Problem(str(folder), f"a slice is missing, or distances differ: {what}", "export it again"))


def _steps(frames: Sequence[Frame]) -> np.ndarray:
    return np.diff([one.position for one in frames], axis=0)


def affine_of(frames: Sequence[Frame]) -> np.ndarray:
    """4x4, (column, row, slice) of ordered slices -> RAS+ millimetres, as if none slid sideways."""
    first, last = frames[0], frames[-1]
    normal = np.cross(*first.axes)
    apart = first.thickness
    if len(frames) > 1:
        apart = float((last.position - first.position) @ normal) / (len(frames) - 1)
    affine = np.eye(4)
    affine[:3, 0] = first.axes[0] * first.spacing[1]
    affine[:3, 1] = first.axes[1] * first.spacing[0]
    affine[:3, 2] = normal * apart
    affine[:3, 3] = first.position
    return LPS @ affine


def voxels_of(frames: Sequence[Frame]) -> np.ndarray:
    """`(slice, row, column)` float32, each value with the slope of its slice."""
    first = frames[0]
    volume = np.empty((len(frames), first.rows, first.columns), np.float32)
    read: tuple[Path, np.ndarray] | None = None
    for place, frame in enumerate(frames):
        if read is None or read[0] != frame.header.path:
            read = frame.header.path, stored_values(frame.header)
        row, column = frame.corner
        pixels = read[1][frame.number, row : row + frame.rows, column : column + frame.columns]
        volume[place] = pixels * frame.slope + frame.intercept
    return volume


# --- a tilted gantry -----------------------------------------------------------------------------------------------


def slides(frames: Sequence[Frame], folder: Path) -> np.ndarray | None:
    """Millimetres (slice, 2) by which each slice lies aside along a row and a column; None: all lie behind another.

    Raises:
        DataError: they slide by unequal steps, which no gantry does.
    """
    if len(frames) < 2:
        return None
    first = frames[0]
    normal = np.cross(*first.axes)
    steps = _steps(frames)
    aside = steps @ first.axes.T
    middle = float(np.median(steps @ normal))
    if np.linalg.norm(aside, axis=1).max() <= TILT * middle + 1e-3:
        return None
    usual = np.median(aside, axis=0)
    if np.linalg.norm(aside - usual, axis=1).max() > UNEVEN * middle + 1e-3:
        at = int(np.linalg.norm(aside - usual, axis=1).argmax())
        what = f"slices slide sideways by unequal steps ({frames[at].name}, {frames[at + 1].name})"
        raise DataError(Problem(str(folder), what, CONVERT))
    return np.vstack([np.zeros(2), np.cumsum(aside, axis=0)])


def upright(volume: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Slices that lie aside by `pixels` (slice, 2: rows, columns), on one grid that holds all of them.

    Linear as ITK resamples, a pixel reaching half its side beyond its middle; outside is the least value there is.

    Returns:
        `(slice, row, column)`, and the row and column of the first slice's pixels where the grid begins.
    """
    low, high = np.floor(pixels.min(axis=0)).astype(int), np.ceil(pixels.max(axis=0)).astype(int)
    fill = volume.min()
    rows, columns = np.array(volume.shape[1:]) + high - low
    found = np.full((len(volume), rows, columns), fill, np.float32)
    for place, slice_ in enumerate(volume):
        moved, inside = slice_, np.ones((rows, columns), bool)
        for axis, size in enumerate((rows, columns)):
            moved, there = _shifted(moved, np.arange(size) + low[axis] - pixels[place, axis], axis)
            inside &= there[:, None] if axis == 0 else there[None]
        found[place][inside] = moved[inside]
    return found, (int(low[0]), int(low[1]))


def _shifted(slice_: np.ndarray, at: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The values at these places of an axis, and which places are in the slice."""
    size = slice_.shape[axis]
    inside = (at >= -0.5) & (at <= size - 0.5)
    places = at.clip(0, size - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, size - 1)
    share = (places - below).astype(np.float32)
    share = share[:, None] if axis == 0 else share[None]
    return slice_.take(below, axis) * (1 - share) + slice_.take(above, axis) * share, inside
