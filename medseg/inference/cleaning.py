"""Steps on a finished mask: small or stray parts are removed, holes are filled, each for the targets that are named.

All are functions of a label map `(*spatial)`, of exclusive classes or of overlapping regions alike. Two rules say what
a voxel becomes. *Removed* from a target, it becomes background; in a map of regions it stays in the regions around: an
enhancing tumour that is removed becomes what the tumour core is painted with (in BraTS necrosis), a whole tumour takes
its core with it. *Filled* is a voxel only if that takes it from no other target: of exclusive classes only background.

Parts hang together by faces (4 neighbours in 2D, 6 in 3D), and a hole is background that does not reach the edge of the
image by faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from medseg.core.errors import ConfigError, Problem, did_you_mean
from medseg.core.labels import Labels

ROUNDING = 1e-6  # of a voxel: a component of exactly the least volume stays


def clean_mask(
    mask: np.ndarray,
    labels: Labels,
    *,
    voxel_ml: float | None = None,
    keep_largest_component: Sequence[str] = (),
    minimum_volume_ml: Mapping[str, float] | None = None,
    minimum_total_ml: Mapping[str, float] | None = None,
    fill_holes: Sequence[str] = (),
) -> np.ndarray:
    """The mask after all these steps, in the order of the arguments, and of `labels.targets` within each.

    Holes come last, since a stray part that is removed from inside another class leaves one.

    Args:
        mask: label values `(*spatial)`; it stays as it is.
        voxel_ml: volume of a voxel; None (a picture) where no step asks for a volume.
        keep_largest_component: targets of which only the largest component stays (the first of equals).
        minimum_volume_ml: target -> ml, smaller components are removed.
        minimum_total_ml: target -> ml, all of the target is removed where there is less of it.
        fill_holes: targets whose holes are filled.

    Raises:
        ConfigError: a name that is not one of `labels.targets`, or a volume is asked of a picture.
    """
    volumes = {"minimum_volume_ml": dict(minimum_volume_ml or {}), "minimum_total_ml": dict(minimum_total_ml or {})}
    named: dict[str, Any] = {"keep_largest_component": keep_largest_component, **volumes, "fill_holes": fill_holes}
    _check(labels, named, voxel_ml)
    box = _box(mask)
    if box is None or not any(named.values()):
        return mask.copy()
    part = mask[box].copy()
    for target in _ordered(keep_largest_component, labels):
        part = keep_largest(part, labels, target)
    for target in _ordered(volumes["minimum_volume_ml"], labels):
        part = remove_components(part, labels, target, volumes["minimum_volume_ml"][target] / (voxel_ml or 1))
    for target in _ordered(volumes["minimum_total_ml"], labels):
        part = remove_below(part, labels, target, volumes["minimum_total_ml"][target] / (voxel_ml or 1))
    for target in _ordered(fill_holes, labels):
        part = fill(part, labels, target)
    cleaned = mask.copy()
    cleaned[box] = part
    return cleaned


def keep_largest(mask: np.ndarray, labels: Labels, target: str) -> np.ndarray:
    """Remove whatever of the target does not hang together with its largest component."""
    parts, count = ndimage.label(_inside(mask, labels.targets[target]))
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return _removed(mask, labels, target, (parts != 0) & (parts != sizes.argmax()))


def remove_components(mask: np.ndarray, labels: Labels, target: str, minimum_voxels: float) -> np.ndarray:
    """Remove the components of the target with fewer voxels."""
    parts, count = ndimage.label(_inside(mask, labels.targets[target]))
    small = np.bincount(parts.ravel()) < minimum_voxels - ROUNDING
    small[0] = False
    return _removed(mask, labels, target, small[parts]) if count and small.any() else mask


def remove_below(mask: np.ndarray, labels: Labels, target: str, minimum_voxels: float) -> np.ndarray:
    """Remove all of the target if it has fewer voxels: BraTS's rule for enhancing tumour (Isensee et al. 2018,
    arXiv 1809.10483), where a few voxels of it in a tumour without any cost the whole Dice of the case."""
    inside = _inside(mask, labels.targets[target])
    return _removed(mask, labels, target, inside) if inside.sum() < minimum_voxels - ROUNDING else mask


def fill(mask: np.ndarray, labels: Labels, target: str) -> np.ndarray:
    """Fill the holes of the target, as far as that takes no voxel from another target."""
    outside, count = ndimage.label(~_inside(mask, labels.targets[target]))
    enclosed = np.ones(count + 1, dtype=bool)
    enclosed[0] = False
    for axis in range(mask.ndim):
        for end in (0, -1):
            enclosed[np.unique(np.take(outside, end, axis))] = False
    if not enclosed.any():
        return mask
    paint = _painted(labels)[target]
    others = [values for values in labels.targets.values() if paint not in values]
    holes = enclosed[outside] & ~_inside(mask, [value for values in others for value in values])
    filled = mask.copy()
    filled[holes] = paint
    return filled


def _removed(mask: np.ndarray, labels: Labels, target: str, where: np.ndarray) -> np.ndarray:
    """The mask with the target taken from these voxels; the last painted of the regions around it remains."""
    own, left = labels.targets[target], np.zeros_like(mask)
    if labels.regions:
        for region, paint in _painted(labels).items():
            if paint not in own:
                left[_inside(mask, labels.regions[region])] = paint
    return np.where(where, left, mask)


def _painted(labels: Labels) -> dict[str, int]:
    """The value that each target writes into a mask, in the order in which they are painted."""
    if labels.regions:
        return dict(zip(labels.regions, labels.region_values, strict=True))
    return {name: values[0] for name, values in labels.targets.items()}


def _inside(mask: np.ndarray, values: Sequence[int]) -> np.ndarray:
    found = np.zeros(mask.shape, dtype=bool)
    for value in values:
        found |= mask == value
    return found


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The box of all that is not 0; beyond it nothing is removed, and no hole can be. None: there is nothing."""
    return ndimage.find_objects((mask != 0).astype(np.uint8))[0] if mask.any() else None


def _ordered(targets: Sequence[str] | Mapping[str, float], labels: Labels) -> list[str]:
    return [target for target in labels.targets if target in targets]


def _check(labels: Labels, named: Mapping[str, Sequence[str] | Mapping[str, float]], voxel_ml: float | None) -> None:
    problems = [
        Problem(f"inference.{key}", f"unknown target {target!r}", did_you_mean(target, labels.targets))
        for key, targets in named.items()
        for target in targets
        if target not in labels.targets
    ]
    problems += [
        Problem(f"inference.{key}", "a picture has no volume", "take the key out")
        for key in ("minimum_volume_ml", "minimum_total_ml")
        if named[key] and voxel_ml is None
    ]
    if problems:
        raise ConfigError(problems)
