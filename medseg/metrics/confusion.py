"""Voxel counts of a target, and the confusion of whole label maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.core.labels import Labels


@dataclass(frozen=True)
class Counts:
    """Voxels of one target: found, invented and overlooked; counts of several cases add up with `+`."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def predicted(self) -> int:
        return self.true_positives + self.false_positives

    @property
    def true(self) -> int:
        return self.true_positives + self.false_negatives


def count(prediction: np.ndarray, truth: np.ndarray) -> Counts:
    """Compare two boolean maps of the same shape."""
    both = int(np.count_nonzero(prediction & truth))
    return Counts(both, int(np.count_nonzero(prediction)) - both, int(np.count_nonzero(truth)) - both)


def confusion(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """How often each pair of values occurs: int64 (256, 256), rows are the truth.

    Args:
        truth, prediction: uint8 maps of one shape.
    """
    pairs = truth.astype(np.uint16).ravel()
    pairs <<= 8
    pairs |= prediction.ravel()
    return _counts(pairs, 1 << 16).reshape(256, 256)


def value_counts(label: np.ndarray) -> np.ndarray:
    """How often each value occurs in a uint8 map: int64 (256,)."""
    return _counts(label.ravel(), 256)


def _counts(values: np.ndarray, length: int) -> np.ndarray:
    """Runs of one value are counted at once: a mask has few of them, and `bincount` looks at every single number."""
    if not values.size:
        return np.zeros(length, dtype=np.int64)
    starts = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))
    runs = np.diff(starts, append=values.size)
    return np.bincount(values[starts], weights=runs, minlength=length).astype(np.int64)  # exact up to 2 ** 53


def where_values(label: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Boolean map of the voxels that hold one of a few `values`: comparisons, which beat `np.isin` by far."""
    found = np.zeros(label.shape, dtype=bool)
    for value in values:
        found |= label == value
    return found


def target_voxels(label: np.ndarray, labels: Labels) -> dict[str, int]:
    """Target (a class or a region) -> how many voxels of a label map it has."""
    return {name: int(where_values(label, values).sum()) for name, values in labels.targets.items()}
