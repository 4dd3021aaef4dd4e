"""Augmentations by the keys of a config, and what they are given in tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage

from medseg.data.training.augment import TRANSFORMS
from medseg.data.training.augment.base import Transform, Warp
from medseg.data.training.augment.pipeline import Augment
from medseg.data.training.augment.resampling import combined

NAMES = [name for name, part in TRANSFORMS.own.items() if f"{name}_probability" in part.options]


def transforms(**options: Any) -> dict[str, Transform]:
    """Those of the table, by the keys of a config."""
    keys = {name: part.options.keys() & options.keys() for name, part in TRANSFORMS.own.items()}
    assert options.keys() == set().union(*keys.values())
    return {name: TRANSFORMS[name].builder()(**{key: options[key] for key in mine}) for name, mine in keys.items()}


def built(seed: int = 5, spacing_mm: Any = None, patch_size: Any = None, margin: Any = None, **options: Any) -> Augment:
    return Augment(seed, transforms(**options), spacing_mm, patch_size, margin=margin)


def only(*names: str, **options: Any) -> Augment:
    """An `Augment` that always does what is named, and nothing else."""
    return built(**({f"{name}_probability": float(name in names) for name in NAMES} | options))


def warp_of(augment: Augment, sample: int, dims: int) -> Warp:
    """The one map of a sample."""
    drawn = augment.draw(sample, 2, dims)
    return combined([drawn[name] for name in augment.spatial if name in drawn])


def batch(shape: tuple[int, ...] = (18, 21, 16), count: int = 4, channels: int = 2) -> dict[str, Any]:
    """Smooth images of different intensities; the label is where the first channel is bright."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(count, channels, *shape))
    image = np.stack([[ndimage.gaussian_filter(c, 2) for c in one] for one in noise])
    image = image / image.std() + random.normal(size=(count, channels, *[1] * len(shape)))
    label = (image[:, :1] > np.median(image[:, :1])).astype(np.uint8)
    return {
        "image": torch.from_numpy(image).float(),
        "label": torch.from_numpy(label),
        "sample": torch.arange(count) + 7,
        "case": ["x"] * count,
    }


def at_once(augment: Augment, data: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and label as a GPU computes them: all samples together."""
    dims, channels = data["image"].ndim - 2, data["image"].shape[1]
    draws = [augment.draw(sample, channels, dims) for sample in data["sample"].tolist()]
    return augment.change(data["image"], data["label"], draws)


ALL = {f"{name}_probability": 0.7 for name in NAMES} | {"flip_axes": (0, 1), "bend_voxels": 1.0}
