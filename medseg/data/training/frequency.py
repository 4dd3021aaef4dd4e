"""Weights of classes that balance how often they occur, from the labels of the training cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medseg.core.errors import DataError
from medseg.core.files import replace_file
from medseg.core.labels import Labels
from medseg.core.stored import Stored, read_stored
from medseg.data.training.cache import CachedDataset


def pixels_of_classes(cases: CachedDataset, labels: Labels) -> np.ndarray:
    """`(cases, K)`: pixels of every class in every case; the cache knows them, so no label is read."""
    counts = np.zeros((len(cases), len(labels.values)), dtype=np.int64)
    for row in range(len(cases)):
        entry = cases.entry(row)
        if entry.label is None:
            raise DataError(f"{entry.case}: has no label")
        of_value = {value: count for value, (count, _) in entry.voxels.items()}
        of_value[0] = entry.label.numel() - sum(of_value.values())  # zeros are not listed
        counts[row] = [of_value.get(value, 0) for value in labels.values]
    return counts


def median_frequency_weights(counts: np.ndarray, exponent: float = 1.0) -> list[float]:
    """(median frequency / frequency) ** exponent of each class; 1 for a class that never occurs.

    The frequency of a class is its share of the pixels of the cases in which it occurs (Eigen & Fergus, arXiv
    1411.4734, section 4.3.2). Ignored pixels are not counted.

    Args:
        counts: `(cases, K)` pixels.
        exponent: 0.5 for the square root, which spares large classes.
    """
    pixels = counts.sum(axis=1, keepdims=True)
    around = np.where(counts > 0, pixels, 0).sum(axis=0)
    frequency = counts.sum(axis=0) / np.maximum(around, 1)
    there = frequency > 0
    if not there.any():
        raise DataError("no training label holds any class", "are the classes those of these masks?")
    weights = np.ones(len(frequency))
    weights[there] = (np.median(frequency[there]) / frequency[there]) ** exponent
    return [float(weight) for weight in weights]


class _Weights(Stored):
    exponent: float
    weights: dict[str, float]


def class_weights(cases: CachedDataset, labels: Labels, exponent: float, file: str) -> list[float]:
    """`median_frequency_weights` of the cases, kept as JSON (name -> weight) in `file` and read from there again."""
    path = Path(file)
    names: Sequence[str] = list(labels.classes)
    if path.is_file():
        remedy = "remove the file: the labels are counted again"
        kept = read_stored(path, _Weights, "no weights of classes", remedy)
        if kept.exponent == exponent and list(kept.weights) == names:
            return list(kept.weights.values())
    weights = median_frequency_weights(pixels_of_classes(cases, labels), exponent)
    content = {"exponent": exponent, "weights": dict(zip(names, weights, strict=True))}
    replace_file(path, json.dumps(content, indent=2) + "\n")
    return weights
