"""Tiny pictures with masks, and the shipped config for them, light enough for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from medseg.config.load import load_config
from medseg.config.schema import Config

CLASSES = {"road": 3, "car": 7, "sky": 0}
LIGHT = [
    "network.pretrained=null",
    "network.encoder_options.width=0.25",
    "network.pyramid_channels=8",
    "network.segmentation_channels=8",
    "training.batch_size=2",
    "training.patch_size=[32, 32]",
    "training.max_minutes=null",
    "training.max_iterations=2",
    "training.iterations_per_epoch=2",
    "training.validation_interval=1",
]


def camvid_cpu(*overrides: str) -> Config:
    """The shipped config, light enough for a test."""
    return load_config("camvid_cpu", [*LIGHT, *overrides])


def of_pairs(root: Path, *overrides: str) -> Config:
    """The same for the pictures of `write_pairs`."""
    return camvid_cpu(*pairs_overrides(root), *overrides)


def pairs_overrides(root: Path) -> list[str]:
    """What `--set` must say so that a config trains on the pictures of `write_pairs`."""
    classes = ", ".join(f"{name}: {value}" for name, value in CLASSES.items())
    return ["data.card=null", f"data.root={root}", f"data.classes={{{classes}}}", "data.ignore_index=255"]


def write_pairs(root: Path, train: int = 4, val: int = 2, test: int = 1) -> Path:
    """Coloured stripes in folders of images and masks; those to test on have no mask; 255 is void."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val), ("test", test)):
        for number in range(count):
            label = np.sort(random.choice([0, 3, 7], size=(36, 1))) + np.zeros((1, 44), np.int64)
            image = np.stack([label * 30, 255 - label * 30, label], -1) + random.integers(0, 9, (36, 44, 3))
            label[:2] = 255
            save(root / "images" / split / f"{split}{number}.png", image.clip(0, 255))
            if split != "test":
                save(root / "masks" / split / f"{split}{number}.png", label)
    return root


def write_cityscapes(root: Path, train: int = 2, val: int = 3) -> Path:
    """Streets in the layout of Cityscapes: road, cars of different sizes one by one, a crowd of people, sky, void."""
    random = np.random.default_rng(0)
    for split, city, count in (("train", "ulm", train), ("val", "bonn", val)):
        for number in range(count):
            label = np.full((36, 44), 7)  # road
            label[:12], label[:2] = 23, 3  # sky, out of roi
            label[6:12, 30:] = 24  # people in a group: no objects
            objects = label.copy()
            for place in range(2 + number % 2):
                height, width = random.integers(8, 24), random.integers(5, 15)
                box = (slice(12, 12 + height), slice(15 * place, 15 * place + width))
                label[box], objects[box] = 26, 26_000 + place
            image = np.stack([label * 9, 255 - label * 9, label], -1) + random.integers(0, 9, (36, 44, 3))
            name = f"{city}/{city}_{number:06d}_000019"
            save(root / "leftImg8bit" / split / f"{name}_leftImg8bit.png", image.clip(0, 255))
            save(root / "gtFine" / split / f"{name}_gtFine_labelIds.png", label)
            save(root / "gtFine" / split / f"{name}_gtFine_instanceIds.png", objects, np.uint16)
    return root


def save(path: Path, pixels: np.ndarray, kind: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(pixels.astype(kind)).save(path)
