"""The augmentation in a bundle: every transform a component that can be overridden by its id."""

from __future__ import annotations

from typing import Any

import torch
from monai.bundle import ConfigParser

from medseg.bundle import components
from medseg.config.load import load_config
from medseg.data.training.augment import TRANSFORMS
from medseg.data.training.augment.gamma import Gamma
from medseg.data.training.augment.noise import Noise
from medseg.data.training.augment.pipeline import Augment


def parsed(*overrides: str, **ids: Any) -> Augment:
    """What MONAI makes of the compiled component, with some ids set to something else."""
    content = {"train": {"augment": components.augment(load_config("hippocampus", overrides))}}
    parser = ConfigParser(content)
    for name, value in {"train#augment#patch_size": None, **ids}.items():
        parser[name] = value
    return parser.get_parsed_content("train#augment")


def test_every_transform_of_the_table_is_there_with_the_options_of_the_config() -> None:
    augment = parsed("augmentation.gamma=[0.6, 0.9]", "augmentation.noise_probability=0.5")
    assert [*augment.spatial, *augment.intensity] == list(TRANSFORMS.own)
    gamma, noise = augment.intensity["gamma"], augment.intensity["noise"]
    assert isinstance(gamma, Gamma)
    assert gamma.factors == [0.6, 0.9]
    assert isinstance(noise, Noise)
    assert noise.probability == 0.5


def test_every_option_has_an_id_and_a_bundle_may_bring_a_transform_of_its_own() -> None:
    ids = {
        "train#augment#transforms#gamma#gamma_probability": 1.0,
        "train#augment#transforms#more": {"_target_": "medseg.data.training.augment.noise.Noise", "noise_std": 3.0},
    }
    augment = parsed(**ids)
    assert augment.intensity["gamma"].probability == 1.0
    more = augment.intensity["more"]
    assert isinstance(more, Noise)
    assert more.std == 3.0
    batch = {"image": torch.randn(2, 1, 8, 8, 8), "label": torch.zeros(2, 1, 8, 8, 8), "sample": torch.arange(2)}
    assert augment(batch)["image"].shape == (2, 1, 8, 8, 8)


def test_nothing_happens_where_it_is_switched_off() -> None:
    assert components.augment(load_config("hippocampus", ["augmentation.enabled=false"])) is None
