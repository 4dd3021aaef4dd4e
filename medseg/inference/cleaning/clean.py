"""A finished mask through the steps that are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medseg.core.errors import ConfigError, Problem, did_you_mean
from medseg.core.labels import Labels
from medseg.inference.cleaning import CLEANING

Asked = Sequence[str] | Mapping[str, float]
"""Targets, or the value for each."""


def clean_mask(mask: np.ndarray, labels: Labels, *, voxel_ml: float | None = None, **steps: Asked) -> np.ndarray:
    """The mask after these steps of `CLEANING`, in its order, and of `labels.targets` within each.

    Args:
        mask: label values `(*spatial)`; it stays as it is.
        voxel_ml: volume of a voxel; None (a picture) where no step asks for a volume.
        steps: name -> the targets that it is for, or target -> value where it takes one.

    Raises:
        ConfigError: an unknown step, a name that is not one of `labels.targets`, or a volume is asked of a picture.
    """
    _check(labels, steps, voxel_ml)
    box = _box(mask)
    if box is None or not any(steps.values()):
        return mask.copy()
    part = mask[box].copy()
    for name in CLEANING.own:
        asked = steps.get(name, ())
        for target in labels.targets:
            if target in asked:
                kind = CLEANING.own[name].load()
                step = kind(asked[target]) if isinstance(asked, Mapping) else kind()
                part = step(part, labels, target, voxel_ml or 1.0)
    cleaned = mask.copy()
    cleaned[box] = part
    return cleaned


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The box of all that is not 0; beyond it nothing is removed, and no hole can be. None: there is nothing."""
    return ndimage.find_objects((mask != 0).astype(np.uint8))[0] if mask.any() else None


def _check(labels: Labels, steps: Mapping[str, Asked], voxel_ml: float | None) -> None:
    problems = []
    for name, asked in steps.items():
        if name not in CLEANING.own:
            problems.append(Problem(name, "no such cleaning step", did_you_mean(name, CLEANING.own)))
            continue
        for target in asked:
            if target not in labels.targets:
                problems.append(Problem(name, f"unknown target {target!r}", did_you_mean(target, labels.targets)))
        if asked and voxel_ml is None and CLEANING.own[name].constants["NEEDS_VOLUME"]:
            problems.append(Problem(name, "a picture has no volume", "leave this step out"))
    if problems:
        raise ConfigError(problems)
