"""How thick slices are, whatever the headers say: what neighbouring voxels say of it.

Measured case by case on arrays in the order of the file (`coarseness`), and read over all cases by pure rules
(`thick_slices`, `spacing_doubt`, `slab_doubt`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LAGS = (1, 2, 4, 8, 16)  # voxels between two that are compared
LINE_VOXELS = 2**15  # on evenly spaced lines along an axis, of each channel
QUICK = 2**13  # the same, where a case or two decide nothing: within a tenth of it
MARGIN = 0.97  # of a difference: where distance hardly matters (much noise), 3 % more would be many voxels
SCALE = (1.0, 99.0)  # percentiles between which intensities are compared: what lies outside are a few bright voxels

# Calibrated (medians over the cases, of the coarsest axis). True 1 mm: BraTS 0.99, hippocampus 1.06, both with 15 % of
# white noise 1.0; slabs of BraTS 1.3; drawn heads 1.4. Every second slice: BraTS 1.9, hippocampus 2.0; every fourth
# 3.7 and 3.8, with the noise too; the mean of four 3.8 and 3.5. LGG, of which 1 x 1 x 1 mm is said: 2.8.
SEVERAL = 2.0  # so much coarser than all others is no axis of an isotropic grid
DOUBTFUL = 1.5  # enough where the extents cannot be either
VARIED = 3.0  # most over fewest slices of one organ that whole volumes can have

SLAB = (128, 6)  # pixels of a side, of which there are so many times as many as slices, in what is no cube of 1 mm


@dataclass(frozen=True)
class Slices:
    """The coarsest axis of a data set, and by how much a voxel is longer along it than along the others.

    Args:
        axis: of the preprocessed image.
        evidence: by the voxels, at most `LAGS[-1]`; below 1 where the slices are smooth (interpolated).
        headers: by the median spacing.
    """

    axis: int
    evidence: float
    headers: float


def coarseness(image: np.ndarray, foreground: np.ndarray, line_voxels: int = LINE_VOXELS) -> tuple[float, ...]:
    """Of each axis: how many voxels along another axis lie between two that differ as neighbours along this one do.

    The least over the other axes, so that only an axis that is coarser than all others has more than 1. Two voxels of a
    kind are compared (mean absolute difference), so noise adds the same to both and does not make an axis look coarse.

    Args:
        image: (C, *spatial).
        foreground: (*spatial) bool, only pairs inside which count.
        line_voxels: how many are compared along an axis of each channel.
    """
    axes = range(image.ndim - 1)
    curves = np.zeros((len(axes), len(LAGS)))
    for channel in image:
        curves += _curves(channel, foreground, line_voxels)
    return tuple(
        round(min((_reach(curves[axis, 0], curves[other]) for other in axes if other != axis), default=1.0), 4)
        for axis in axes
    )


def _curves(channel: np.ndarray, foreground: np.ndarray, line_voxels: int) -> np.ndarray:
    """Mean absolute difference (axes, lags), as a share of the range; NaN where the axis is too short."""
    axes = range(channel.ndim)
    lines = []
    for axis in axes:
        step = math.ceil((channel.size / line_voxels) ** (1 / max(channel.ndim - 1, 1)))
        chosen = tuple(slice(None, None, 1 if other == axis else step) for other in axes)
        lines.append((finite(np.moveaxis(channel[chosen], axis, 0)), np.moveaxis(foreground[chosen], axis, 0)))
    known = np.concatenate([values[inside] for values, inside in lines])
    low, high = np.percentile(known, SCALE) if known.size else (0.0, 0.0)
    curves = np.zeros((channel.ndim, len(LAGS)))
    if high <= low:  # one value says nothing
        return curves
    for axis, (values, inside) in enumerate(lines):
        scaled = (np.clip(values, low, high) - low) / (high - low)
        for place, lag in enumerate(LAGS):
            differences = np.abs(scaled[lag:] - scaled[:-lag])[inside[lag:] & inside[:-lag]]
            curves[axis, place] = differences.mean() if differences.size else np.nan
    return curves


def _reach(difference: float, curve: np.ndarray) -> float:
    """The lag at which a curve (lags) nearly reaches a difference; 1 where either is not known."""
    known = np.isfinite(curve)
    difference *= MARGIN
    rising = np.maximum.accumulate(curve[known])
    if not np.isfinite(difference) or not len(rising) or rising[0] <= 0:
        return 1.0
    if difference <= rising[0]:
        return float(difference / rising[0])
    rising = np.log(rising) + 1e-9 * np.arange(len(rising))  # a curve that stays level counts from where it began to
    return float(np.exp(np.interp(np.log(difference), rising, np.log(np.array(LAGS)[known]))))


def thick_slices(spacings_mm: np.ndarray, coarse: np.ndarray) -> Slices:
    """The axis that is the coarsest by the headers or by the voxels, whichever says more.

    Args:
        spacings_mm, coarse: (cases, axes), of volumes.
    """
    spacing, evidence = np.median(spacings_mm, axis=0), np.median(coarse, axis=0)
    headers = np.array([side / np.delete(spacing, axis).max() for axis, side in enumerate(spacing)])
    axis = int(np.maximum(headers, evidence).argmax())
    return Slices(axis, float(evidence[axis]), float(headers[axis]))


def spacing_doubt(spacings_mm: np.ndarray, shapes: np.ndarray, coarse: np.ndarray) -> str:
    """Why the spacing cannot be true, as a sentence; empty where it may be.

    It is doubted only where all cases say the same isotropic spacing, as files do into which nobody wrote one, and
    where the voxels say that one axis is several times as coarse as each other one; or somewhat coarser, if the number
    of slices varies as that of whole organs at one spacing cannot while the other sides are always the same.

    Args:
        spacings_mm, shapes: (cases, axes). Pictures (two axes) are never doubted.
        coarse: (cases, axes), perhaps of some of the cases only.
    """
    first = spacings_mm[0]
    if not same_cubes(spacings_mm):
        return ""
    slices = thick_slices(spacings_mm, coarse)
    counts = shapes[:, slices.axis]
    others = np.delete(shapes, slices.axis, axis=1)
    varies = counts.max() >= VARIED * counts.min() and bool((others == others[0]).all())
    if slices.evidence < (DOUBTFUL if varies else SEVERAL):
        return ""
    said = " x ".join(f"{side:.4g}" for side in first)
    who = f"all {len(shapes)} cases say" if len(shapes) > 1 else "the case says"
    sizes = f"{counts.min()} to {counts.max()}" if counts.min() < counts.max() else f"{counts.min()}"
    return (
        f"{who} {said} mm, which cannot be true: neighbours along axis {slices.axis} (of {sizes} slices) differ as much"
        f" as voxels {slices.evidence:.2g} apart along the other axes do"
    )


def same_cubes(spacings_mm: np.ndarray) -> bool:
    """Whether all volumes say the same isotropic spacing (cases, axes), so that it may be doubted."""
    return spacings_mm.shape[1:] == (3,) and bool(np.allclose(spacings_mm, spacings_mm[0].mean(), rtol=1e-3))


def slab_doubt(spacings_mm: np.ndarray, shapes: np.ndarray) -> str:
    """Why 1 x 1 x 1 mm, which programs write where they know nothing, is not believed; empty where it may be true.

    Few large slices in all cases are no scan at 1 mm: of a head they would be a disc of some centimetres.

    Args:
        spacings_mm, shapes: (cases, axes). Pictures are never doubted.
    """
    if spacings_mm.shape[1:] != (3,) or not np.allclose(spacings_mm, 1, rtol=0, atol=1e-4):
        return ""
    fewest, *sides = np.sort(shapes, axis=1).T
    side, times = SLAB
    if not (np.minimum(*sides) >= np.maximum(side, times * fewest)).all():
        return ""
    typical = " x ".join(f"{size:.0f}" for size in np.median(shapes, axis=0))
    who = f"all {len(shapes)} cases say" if len(shapes) > 1 else "the case says"
    return f"{who} 1 x 1 x 1 mm, which programs write that know nothing: {typical} voxels would be a thin disc"


def finite(values: np.ndarray) -> np.ndarray:
    """As float32 in one piece; what is NaN or infinite (outside of what is labelled, where it is allowed) is 0."""
    return np.nan_to_num(np.ascontiguousarray(values, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
