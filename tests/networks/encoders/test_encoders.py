"""What every encoder of the table promises, in two and three dimensions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg.networks.base import encoder_kind
from medseg.networks.encoders import ENCODERS, build_encoder
from tests.networks import oracles

# Options that make an encoder small, or that it needs; one that is not here is tested as it is.
SMALL: dict[str, dict[str, Any]] = {
    name: {"width": 0.125} for name in ENCODERS.own if "width" in ENCODERS[name].options
}
SMALL |= {name: {"width": 4, "stem_width": 8} for name in ENCODERS.own if name.startswith("hrnet")}
SMALL |= {"plain": {"widths": [4, 8, 8]}, "timm": {"model": "resnet18"}}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODERS.own)
@pytest.mark.parametrize("size", [(67, 50), (33, 40, 31)])
def test_features_are_where_it_says(name: str, size: tuple[int, ...]) -> None:
    """Channels, strides and steps are those of the features, the finest first."""
    if name == "timm":
        oracles.timm()
        size = size[:2]
    encoder = build_encoder(name, len(size), 2, **SMALL.get(name, {})).eval()
    with torch.no_grad():
        features = encoder(torch.randn(1, 2, *size))
    assert [feature.shape[1] for feature in features] == list(encoder.channels)
    total = [1] * len(size)
    for feature, stride, step in zip(features, encoder.strides, encoder.steps, strict=True):
        total = [a * b for a, b in zip(total, step, strict=True)]
        assert list(stride) == total
        assert all(abs(n - m / s) <= 1 for n, m, s in zip(feature.shape[2:], size, stride, strict=True))


@pytest.mark.parametrize("name", ENCODERS.own)
def test_its_class_says_what_family_it_is_of(name: str) -> None:
    assert name == "plain" or (name.startswith(encoder_kind(name)) and encoder_kind(name))
