"""HRNetV2: the published counts, features equal to timm's, any size, strides of their own for each axis."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.networks.encoders.hrnet import HRNetEncoder
from medseg.networks.hrnet import HRNet
from tests.networks.oracles import torchvision

SMALL = {"encoder": "hrnet_w18s", "encoder_options": {"width": 4, "stem_width": 4}}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("encoder", "classes", "parameters"),
    [
        ("hrnet_w18", 21, 9_641_661),
        ("hrnet_w18", 150, 9_676_620),
        ("hrnet_w32", 21, 29_547_477),
        ("hrnet_w48", 19, 65_859_379),
        ("hrnet_w48", 21, 65_860_821),
        ("hrnet_w18s", 21, 3_939_851 + 15 * 18),  # mmseg's, which has no bias in the 1x1 convolution before its norm
    ],
)
def test_parameters_as_published(encoder: str, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(HRNet(2, 3, classes, encoder=encoder)) == parameters


def test_parameters_of_the_backbones() -> None:
    with torch.device("meta"):
        assert count(HRNetEncoder(2, 3, layout="w18")) == 9_562_260
        assert count(HRNetEncoder(2, 3, layout="w48")) == 65_325_120


@pytest.mark.parametrize(("layout", "model"), [("w18s", "hrnet_w18_small_v2"), ("w18", "hrnet_w18")])
def test_features_equal_those_of_timm(layout: str, model: str) -> None:
    """timm has the classifier's network: nearest neighbour where the segmenter's resizes linearly."""
    torchvision()  # timm imports it
    theirs = pytest.importorskip("timm").create_model(model, features_only=True, feature_location="").eval()
    ours = HRNetEncoder(2, 3, layout=layout)
    for module in theirs.modules():
        if isinstance(module, nn.Upsample):
            module.mode = "bilinear"
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():  # running statistics of real activations, so that each norm matters and none explodes
        for module in ours.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        ours.train()(torch.randn(2, 3, 64, 96))
    theirs.load_state_dict(ours.state_dict())  # the official names
    with torch.no_grad():
        expected = theirs(x)[-4:]
        for feature, other in zip(ours.eval()(x), expected, strict=True):
            torch.testing.assert_close(feature, other, atol=1e-4, rtol=1e-4)


def test_strides_an_axis() -> None:
    encoder = HRNetEncoder(3, 1, layout="w18s", width=4, stem_width=4, strides=[[1, 2, 2], [1, 2, 2], 2, 2, 2]).eval()
    assert encoder.strides == ((1, 4, 4), (2, 8, 8), (4, 16, 16), (8, 32, 32))
    assert encoder.steps == ((1, 4, 4), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    shapes = [tuple(feature.shape[1:]) for feature in encoder(torch.randn(1, 1, 9, 32, 33))]
    assert shapes == [(4, 9, 8, 9), (8, 5, 4, 5), (16, 3, 2, 3), (32, 2, 1, 2)]


@pytest.mark.parametrize("size", [(65, 41), (33, 32, 31)])
def test_any_size_and_every_parameter_learns(size: tuple[int, ...]) -> None:
    network = HRNet(len(size), 2, 3, auxiliary=True, norm="group", **SMALL)
    x = torch.randn(1, 2, *size)
    outputs = network(x)
    assert [tuple(output.shape) for output in outputs] == [(1, 3, *size)] * 2
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
    assert network.eval()(x).shape == (1, 3, *size)


def test_checkpointing_changes_memory_not_gradients() -> None:
    plain = HRNetEncoder(2, 1, layout="w18s", width=4, stem_width=4)
    frugal = HRNetEncoder(2, 1, layout="w18s", width=4, stem_width=4, checkpoint=True)
    frugal.load_state_dict(plain.state_dict())
    x = torch.randn(2, 1, 33, 32)
    for encoder in (plain, frugal):
        sum(feature.square().sum() for feature in encoder(x)).backward()
    for (name, one), other in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    for (name, one), other in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.slow
def test_exports() -> None:
    network = HRNet(3, 1, 2, **SMALL).eval()
    x = torch.randn(1, 1, 16, 17, 18)
    exported = torch.export.export(network, (x,))
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layout": "w19"}, "layout 'w19' is unknown"), ({"strides": [2, 2]}, "needs 5 strides")],
)
def test_mistakes_are_explained(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HRNetEncoder(2, 3, **options)


@pytest.mark.parametrize("size", [(5, 3), (1, 7), (3, 1, 2)])
def test_images_smaller_than_the_stride(size: tuple[int, ...]) -> None:
    network = HRNet(len(size), 1, 2, **SMALL).eval()
    logits = network(torch.randn(1, 1, *size))
    assert logits.shape == (1, 2, *size)
    assert torch.isfinite(logits).all()
