"""The network section names what the networks have: its tables are held against the constructors."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest

from medseg.config.network import (
    OPTIONS,
    OPTIONS_WITH_ENCODER,
    UNET_WIDTHS,
    UNETS,
    EncoderName,
    EncoderOptions,
    NetworkConfig,
    NetworkName,
)
from medseg.networks import NETWORKS, WITH_ENCODER
from medseg.networks.encoders import ENCODERS

FIXED = {"self", "spatial_dims", "in_channels", "out_channels"}


def test_every_network_and_encoder_has_a_name() -> None:
    assert set(get_args(NetworkName)) == set(NETWORKS) == set(OPTIONS)
    assert set(get_args(EncoderName)) == set(ENCODERS) - {"plain"}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_options_are_the_constructors(name: str) -> None:
    assert OPTIONS[name] == set(inspect.signature(NETWORKS[name]).parameters) - FIXED


def test_options_with_an_encoder_are_the_constructors() -> None:
    expected = {name: set(inspect.signature(kind).parameters) - FIXED for name, kind in WITH_ENCODER.items()}
    assert expected == OPTIONS_WITH_ENCODER


def test_default_widths_are_the_networks() -> None:
    assert {name for name in NETWORKS if "widths" in OPTIONS[name]} == set(UNETS)
    for name in UNETS:
        assert inspect.signature(NETWORKS[name]).parameters["widths"].default == UNET_WIDTHS


def test_every_option_is_a_key_and_every_key_an_option() -> None:
    keys = set(NetworkConfig.model_fields) - {"name", "spatial_dims", "pretrained", "inflate"}
    assert keys == set().union(*OPTIONS.values(), *OPTIONS_WITH_ENCODER.values())
    parameters = {key for encoder in ENCODERS.values() for key in inspect.signature(encoder).parameters}
    assert set(EncoderOptions.model_fields) <= parameters


def test_an_option_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="fcn has no such option"):
        NetworkConfig(name="fcn", widths=[8, 16])
    assert NetworkConfig(name="fpn", encoder="resnet18").options() == {"spatial_dims": 3, "encoder": "resnet18"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auxiliary": True}, "auxiliary: unet without an encoder has no such option"),
        ({"encoder_options": {"width": 0.5}}, "encoder_options: unet without an encoder has no such option"),
        ({"encoder": "resnet18", "residual": True}, "residual: unet on an encoder has no such option"),
        ({"encoder": "resnet18", "deep_supervision": False}, "deep_supervision: unet on an encoder has no such option"),
        ({"upsample": "nearest"}, "upsample: nearest is for a unet on an encoder"),
        ({"name": "segresnet", "upsample": "nearest"}, "upsample: nearest is for a unet on an encoder"),
        ({"name": "dynunet", "strides": [1, 2]}, "strides: needs one entry a level: got 2 for 5 widths"),
        ({"widths": [8]}, "widths: needs at least two levels"),
    ],
)
def test_options_that_do_not_go_together(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**options)


def test_a_unet_on_an_encoder_has_the_decoders_widths() -> None:
    config = NetworkConfig(encoder="hrnet_w18", widths=[8, 16, 32, 64], upsample="nearest", auxiliary=True)
    assert config.coarsest([64, 64, 64]) is None
    assert config.options()["widths"] == [8, 16, 32, 64]


def test_what_a_unets_coarsest_voxel_spans() -> None:
    assert NetworkConfig(widths=[8, 16, 32]).multiple() == [4, 4, 4]
    flat = NetworkConfig(widths=[8, 16, 32], strides=[1, [2, 2, 1], [2, 2, 1]])
    assert flat.multiple() == [4, 4, 1]
    assert flat.coarsest([40, 30, 5]) == [10, 8, 5]
    assert NetworkConfig(name="fpn", encoder="resnet18").multiple() is None
