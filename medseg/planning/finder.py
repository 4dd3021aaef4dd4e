"""Two stages: where a volume is many patches and its targets lie in a small part of it, that part is found first.

Winners of FLARE find the region at low resolution and delineate it at full resolution; nnU-Net's cascade does the same
with masks. Here both networks are the planned U-Net, whose patch is chosen for the regions. Pure functions, as `rules`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from medseg.config.finder import FINDER_SHARE, MARGIN_MM
from medseg.planning.fingerprint import CasePrint, Fingerprint
from medseg.planning.rules import (
    INSIDE_VOLUMES,
    Choice,
    Machine,
    RegionGrid,
    Sampling,
    choose_crop,
    choose_sampling,
)

MANY_PATCHES, SMALL_SHARE = 16, 1 / 8  # fewer patches, or a larger part: windows over all of it waste little
CLEARLY_MANY, CLEARLY_SMALL = 64, 1 / 32  # more than that, and the rules prefer two stages without a trial
LEAST_STEPS = 200  # of the finder, without which it is not taken untried
LEAST_VOXELS = 3  # of the coarse grid along the shortest side of the targets' box: fewer are easily missed


def part_of_volume(found: Fingerprint, sampling: Sampling) -> tuple[float, float]:
    """How many patches the median volume is, and the median share that the box of its targets has of it."""
    patches = math.prod(np.median(sampling.shapes, axis=0)) / math.prod(sampling.network.patch_size)
    return float(patches), found.target_share(cropped=sampling.crop)


def is_worth_it(patches: float, share: float) -> bool:
    """Whether two stages are worth a trial."""
    return patches >= MANY_PATCHES and share <= SMALL_SHARE


def is_clear(patches: float, share: float, steps: int | None) -> bool:
    """Whether they are what one would take without a trial.

    Args:
        steps: that the minutes hold; None: no limit.
    """
    enough = steps is None or FINDER_SHARE * steps >= LEAST_STEPS
    return enough and patches >= CLEARLY_MANY and share <= CLEARLY_SMALL


def choose_stages(
    found: Fingerprint,
    machine: Machine,
    minutes: float | None,
    outputs: int,
    time_factor: float = 1.0,
    memory_factor: float = 1.0,
) -> Sampling | None:
    """As `choose_sampling`, of a network that sees the regions of the targets, for its part of the minutes."""
    rest = None if minutes is None else minutes * (1 - FINDER_SHARE)
    sampling = choose_sampling(in_regions(found), machine, rest, outputs, time_factor, memory_factor)
    if sampling is None:
        return None
    crop, why_crop = choose_crop(found)
    patch = "inside nearly all regions of the targets"
    reasons = {**sampling.reasons, "crop": why_crop, "patch": sampling.reasons["patch"].replace(INSIDE_VOLUMES, patch)}
    return replace(sampling, crop=crop, reasons=reasons, finder=_grid(found, sampling, crop))


def in_regions(found: Fingerprint) -> Fingerprint:
    """The data set as the second stage sees it: each volume is the box of its targets, and the margin."""
    shapes = [region_shape(case, MARGIN_MM) for case in found.cases]
    pairs = zip(found.cases, shapes, strict=True)
    return replace(found, cases=tuple(replace(case, shape=shape, cropped_shape=shape) for case, shape in pairs))


def region_shape(case: CasePrint, margin_mm: float) -> tuple[int, ...]:
    """Voxels of the box of a case's targets and a margin on each side; all of the volume, where there is no target."""
    if not case.target_box:
        return case.shape
    return tuple(
        min(length, box + math.ceil(2 * margin_mm / side))
        for length, box, side in zip(case.shape, case.target_box, case.spacing_mm, strict=True)
    )


def _grid(found: Fingerprint, sampling: Sampling, crop: bool) -> RegionGrid:
    """Cubes so large that the median volume is about a patch, but that the targets are not missed."""
    sides = np.median(found.shapes(cropped=crop) * found.spacings_mm(), axis=0)
    boxes = np.array([np.multiply(case.target_box, case.spacing_mm) for case in found.cases if case.target_box])
    whole = float((sides.prod() / math.prod(sampling.network.patch_size)) ** (1 / 3))
    visible = float(np.median(boxes, axis=0).min()) / LEAST_VOXELS
    coarse = float(f"{max(min(whole, visible), *sampling.spacing_mm):.2g}")
    steps = sampling.network.steps
    patch = [max(2 * step, int(side / coarse) // step * step) for side, step in zip(sides, steps, strict=True)]
    fits = math.prod(patch) <= math.prod(sampling.network.patch_size)
    why = f"cubes, of which the median volume of {' x '.join(f'{side:.0f}' for side in sides)} mm is about a patch"
    if visible < whole:
        why = f"cubes, {LEAST_VOXELS} of which lie along the shortest side of the targets' box"
    return RegionGrid(coarse, tuple(patch) if fits else None, why)


def finder_choices(sampling: Sampling) -> list[Choice]:
    """The section `finder`, where there are two stages."""
    grid = sampling.finder
    if grid is None:
        return []
    patch = [] if grid.patch_size is None else [Choice("finder.patch_size", list(grid.patch_size), "the median volume")]
    return [
        Choice("finder.spacing_mm", [grid.spacing_mm] * 3, grid.reason),
        *patch,
        Choice("finder.share", FINDER_SHARE, "of the minutes; the network that delineates has the rest"),
        Choice("finder.margin_mm", MARGIN_MM, "a target cut off is worse than a few windows more"),
    ]
