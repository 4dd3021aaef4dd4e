"""The network section names what the networks have: its tables are held against the constructors."""

from __future__ import annotations

import inspect
from typing import get_args

import pytest

from medseg.config.network import OPTIONS, UNET_WIDTHS, EncoderName, EncoderOptions, NetworkConfig, NetworkName
from medseg.networks import NETWORKS
from medseg.networks.encoders import ENCODERS

FIXED = {"self", "spatial_dims", "in_channels", "out_channels"}


def test_every_network_and_encoder_has_a_name() -> None:
    assert set(get_args(NetworkName)) == set(NETWORKS) == set(OPTIONS)
    assert set(get_args(EncoderName)) == set(ENCODERS) - {"plain"}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_options_are_the_constructors(name: str) -> None:
    assert OPTIONS[name] == set(inspect.signature(NETWORKS[name]).parameters) - FIXED


def test_default_widths_are_the_networks() -> None:
    assert inspect.signature(NETWORKS["unet"]).parameters["widths"].default == UNET_WIDTHS


def test_every_option_is_a_key_and_every_key_an_option() -> None:
    keys = set(NetworkConfig.model_fields) - {"name", "spatial_dims", "pretrained", "inflate"}
    assert keys == set().union(*OPTIONS.values())
    parameters = {key for encoder in ENCODERS.values() for key in inspect.signature(encoder).parameters}
    assert set(EncoderOptions.model_fields) <= parameters


def test_an_option_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="fcn has no such option"):
        NetworkConfig(name="fcn", widths=[8, 16])
    assert NetworkConfig(name="fpn", encoder="resnet18").options() == {"spatial_dims": 3, "encoder": "resnet18"}
