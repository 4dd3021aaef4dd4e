"""Semantic FPN: counts of both published forms, logits of segmentation-models-pytorch, any size."""

from __future__ import annotations

import re

import pytest
import torch

from medseg.core.errors import ConfigError
from medseg.networks import build_network
from medseg.networks.fpn import FPN
from tests.networks.oracles import segmentation_models

SMP_FORM = {
    "smoothing": False,
    "segmentation_norm": "group32",
    "align_corners": True,
    "dropout": 0.2,
    "encoder_options": {"stem": "7x7"},
}
SMALL = {
    "encoder": "resnet18",
    "encoder_options": {"width": 0.125},
    "pyramid_channels": 8,
    "segmentation_channels": 8,
}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("options", "classes", "parameters"),
    [
        ({}, 19, 28_497_907),
        ({}, 150, 28_514_806),
        ({"encoder": "resnet101"}, 19, 47_490_035),
        (SMP_FORM, 21, 26_118_613),
        (SMP_FORM, 150, 26_135_254),
        ({**SMP_FORM, "encoder": "resnet34"}, 21, 23_157_973),
    ],
)
def test_parameters_as_published(options: dict, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(FPN(2, 3, classes, **options)) == parameters


def smp_name(name: str) -> str:
    """Our name of a tensor of segmentation-models-pytorch's FPN."""
    name = name.replace("decoder.p5.", "pyramid.laterals.3.").replace("segmentation_head.0.", "head.")
    name = re.sub(r"decoder\.p(\d)\.skip_conv\.", lambda found: f"pyramid.laterals.{int(found[1]) - 2}.", name)
    block = r"decoder\.seg_blocks\.(\d)\.block\.(\d)\.block\."
    return re.sub(block, lambda found: f"sum.levels.{3 - int(found[1])}.{found[2]}.", name)


@pytest.mark.parametrize("encoder", ["resnet34", "resnet50"])
def test_logits_equal_those_of_segmentation_models_pytorch(encoder: str) -> None:
    torch.manual_seed(0)
    theirs = segmentation_models().FPN(encoder, encoder_weights=None, classes=21).eval()
    for name, value in theirs.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.8, 1.2)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1)
    ours = FPN(2, 3, 21, **{**SMP_FORM, "encoder": encoder}).eval()
    ours.load_state_dict({smp_name(name): value for name, value in theirs.state_dict().items()})
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0.1
        assert (ours(x) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(65, 41), (33, 32, 31)])
@pytest.mark.parametrize("head", ["sum", "mlp"])
def test_any_size_and_every_parameter_learns(size: tuple[int, ...], head: str) -> None:
    network = FPN(len(size), 2, 3, auxiliary=True, norm="group", head=head, **SMALL)
    x = torch.randn(1, 2, *size)
    outputs = network(x)
    assert [tuple(output.shape) for output in outputs] == [(1, 3, *size)] * 2
    sum(output.square().mean() for output in outputs).backward()
    unused = ("pyramid.smooths.1", "pyramid.smooths.2", "pyramid.smooths.3") if head == "mlp" else ()
    for name, parameter in network.named_parameters():
        if not name.startswith(unused):
            assert parameter.grad is not None, name
    assert network.eval()(x).shape == (1, 3, *size)


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "hrnet_w18s", "vgg16"])
def test_on_other_encoders(encoder: str) -> None:
    options = {"width": 4, "stem_width": 4} if encoder.startswith("hrnet") else {"width": 0.125}
    network = FPN(3, 1, 2, encoder=encoder, encoder_options=options, pyramid_channels=8, segmentation_channels=8)
    assert network.eval()(torch.randn(1, 1, 17, 32, 33)).shape == (1, 2, 17, 32, 33)


def test_dilated_encoder_needs_fewer_climbs() -> None:
    options = {"width": 0.125, "output_stride": 8}
    network = FPN(2, 1, 2, encoder="resnet18", encoder_options=options, pyramid_channels=8, segmentation_channels=8)
    assert [len(level) for level in network.sum.levels] == [1, 1, 1, 1]
    assert network.eval()(torch.randn(1, 1, 33, 40)).shape == (1, 2, 33, 40)


@pytest.mark.parametrize("size", [(40, 33), (16, 17, 18)])
def test_exports(size: tuple[int, ...]) -> None:
    network = FPN(len(size), 1, 2, **SMALL).eval()
    x = torch.randn(1, 1, *size)
    exported = torch.export.export(network, (x,))
    torch.testing.assert_close(exported.module()(x), network(x))


def test_mistakes_are_explained() -> None:
    with pytest.raises(ConfigError, match="head 'mean' is unknown; known: sum, mlp"):
        build_network("fpn", spatial_dims=2, in_channels=1, out_channels=2, head="mean")


@pytest.mark.parametrize("size", [(5, 3), (1, 7), (3, 1, 2)])
def test_images_smaller_than_the_stride(size: tuple[int, ...]) -> None:
    network = FPN(len(size), 1, 2, **SMALL).eval()
    logits = network(torch.randn(1, 1, *size))
    assert logits.shape == (1, 2, *size)
    assert torch.isfinite(logits).all()
