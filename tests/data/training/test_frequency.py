"""Median-frequency weights against SegNet's arithmetic in plain loops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.data.training.cache import CachedDataset
from medseg.data.training.frequency import class_weights, median_frequency_weights, pixels_of_classes
from medseg.data.training.transforms import preprocessing

LABELS = Labels({"sky": 0, "road": 3, "car": 7, "ghost": 9}, ignore_index=11, background=None)


@pytest.fixture
def cases(tmp_path: Path) -> tuple[CachedDataset, list[np.ndarray]]:
    random = np.random.default_rng(0)
    listed, maps = [], []
    for number, values in enumerate([(0, 3, 11), (0, 7), (3, 3, 3, 7, 11)]):
        label = random.choice(values, size=(6, 5)).astype(np.uint8)
        maps.append(label)
        Pillow.fromarray(label).save(tmp_path / f"{number}_label.png")
        Pillow.fromarray(np.zeros((6, 5, 3), np.uint8)).save(tmp_path / f"{number}.png")
        files = {"image": str(tmp_path / f"{number}.png"), "label": str(tmp_path / f"{number}_label.png")}
        listed.append({"case": str(number), **files})
    transform = preprocessing(normalization="imagenet", spatial_dims=2, channels=3)
    return CachedDataset(listed, transform, tmp_path / "cache"), maps


def test_weights_are_median_over_frequency(cases, tmp_path: Path) -> None:
    dataset, maps = cases
    frequency = {}
    for name, value in LABELS.classes.items():
        inside = [m for m in maps if (m == value).any()]
        if inside:
            frequency[name] = sum((m == value).sum() for m in inside) / sum((m != 11).sum() for m in inside)
    median = np.median(list(frequency.values()))
    expected = [median / frequency[name] if name in frequency else 1.0 for name in LABELS.classes]
    counts = pixels_of_classes(dataset, LABELS)
    assert counts.sum() == sum((m != 11).sum() for m in maps)
    np.testing.assert_allclose(median_frequency_weights(counts), expected)

    file = tmp_path / "run" / "weights.json"
    weights = class_weights(dataset, LABELS, 0.5, str(file))
    np.testing.assert_allclose(weights, np.sqrt(expected))
    content = json.loads(file.read_text())
    assert list(content["weights"]) == list(LABELS.classes)
    content["weights"]["sky"] = 42.0
    file.write_text(json.dumps(content))
    assert class_weights(dataset, LABELS, 0.5, str(file))[0] == 42.0, "a run keeps the weights that it began with"
    assert class_weights(dataset, LABELS, 1.0, str(file))[0] != 42.0, "but not those of another formula"


def test_labels_without_any_class_are_an_error() -> None:
    with pytest.raises(DataError, match="holds any class"):
        median_frequency_weights(np.zeros((3, 2), dtype=np.int64))
