"""Any timm model as an encoder of images, and what is said where that cannot be."""

from __future__ import annotations

import importlib

import pytest
import torch

from medseg.core.errors import ConfigError
from medseg.networks.analysis.pretended import Pretended
from medseg.networks.encoders.timm import TimmEncoder
from medseg.networks.fpn import FPN
from tests.networks.oracles import torchvision


def needs_timm() -> None:
    torchvision()
    pytest.importorskip("timm")


@pytest.mark.parametrize("model", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_features_are_as_announced(model: str) -> None:
    needs_timm()
    encoder = TimmEncoder(2, 4, model=model).eval()
    features = encoder(torch.randn(1, 4, 64, 96))
    assert [feature.shape[1] for feature in features] == list(encoder.channels)
    for feature, stride in zip(features, encoder.strides, strict=True):
        assert tuple(feature.shape[2:]) == (64 // stride[0], 96 // stride[1])


def test_channels_come_first_where_timm_has_them_last() -> None:
    needs_timm()
    encoder = TimmEncoder(2, 1, model="swin_tiny_patch4_window7_224").eval()
    features = encoder(torch.randn(1, 1, 224, 224))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (96, 56, 56),
        (192, 28, 28),
        (384, 14, 14),
        (768, 7, 7),
    ]


def test_a_network_on_it_takes_any_size() -> None:
    needs_timm()
    options = {"model": "convnext_atto", "norm": "own"}
    network = FPN(2, 1, 3, encoder="timm", encoder_options=options, pyramid_channels=8, segmentation_channels=8)
    assert network.eval()(torch.randn(1, 1, 65, 97)).shape == (1, 3, 65, 97)


def test_a_model_that_reads_values_while_it_is_built_is_pretended_too() -> None:
    """ConvNeXt's rates of stochastic depth are numbers from a tensor, which a tensor without memory cannot give."""
    needs_timm()
    pretended = Pretended.built(lambda: TimmEncoder(2, 1, model="convnext_atto"))
    with pretended.mode:
        features = pretended.module(torch.randn(1, 1, 64, 96))
    assert [tuple(feature.shape[2:]) for feature in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_unknown_model_names_the_nearest() -> None:
    needs_timm()
    with pytest.raises(ConfigError, match="timm has no model 'resnet19'"):
        TimmEncoder(2, 3, model="resnet19")


def test_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="two dimensions only, got spatial_dims 3"):
        TimmEncoder(3, 3, model="resnet18")


def test_absent_timm_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"pip install medseg\[timm\]"):
        TimmEncoder(2, 3, model="resnet18")
