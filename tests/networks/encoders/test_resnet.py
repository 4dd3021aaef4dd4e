"""ResNet, VGG and AlexNet encoders: published counts, torchvision's features, dilation that replaces strides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.networks.encoders import ENCODERS, build_encoder
from medseg.networks.encoders.resnet import ResNetEncoder
from tests.networks.oracles import copy_weights, oracle

SMALL = {"width": 0.125}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "spatial_dims", "parameters"),
    [
        ("resnet18", 2, 11_176_512),
        ("resnet34", 2, 21_284_672),
        ("resnet50", 2, 23_508_032),
        ("resnet101", 2, 42_500_160),
        ("vgg16", 2, 14_714_688),
        ("vgg16_bn", 2, 14_723_136),
        ("resnet18", 3, 33_203_904),
        ("resnet50", 3, 46_198_976),
        ("resnet101", 3, 85_245_120),
        ("vgg16", 3, 44_135_616),
    ],
)
def test_parameters_as_published(name: str, spatial_dims: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(build_encoder(name, spatial_dims, 3)) == parameters


@pytest.mark.parametrize(
    ("name", "stem", "parameters"),
    [
        ("resnet50", "deep", 23_527_264),
        ("resnet101", "deep", 42_519_392),
        ("resnet50", "deep_wide", 23_631_808),
        ("resnet101", "deep_wide", 42_623_936),
    ],
)
def test_parameters_with_deep_stems(name: str, stem: str, parameters: int) -> None:
    with torch.device("meta"):
        assert count(build_encoder(name, 2, 3, stem=stem)) == parameters


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16", "vgg16_bn", "alexnet"])
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (1, 40), (33, 17, 20)])
def test_features_are_as_described(name: str, size: tuple[int, ...]) -> None:
    encoder = build_encoder(name, len(size), 2, **SMALL).eval()
    with torch.no_grad():
        features = encoder(torch.randn(1, 2, *size))
    assert [feature.shape[1] for feature in features] == list(encoder.channels)
    for feature, stride in zip(features, encoder.strides, strict=True):
        assert feature.shape[2:] == tuple(-(-n // s) for n, s in zip(size, stride, strict=True))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [(97, 70), (33, 40, 31)])
def test_dilation_computes_what_lies_between_the_strided_voxels(
    name: str, output_stride: int, size: tuple[int, ...]
) -> None:
    """With torchvision's first-block rule a dilated network is the strided one at every position."""
    torch.manual_seed(0)
    strided = build_encoder(name, len(size), 1, **SMALL).eval()
    dilated = build_encoder(name, len(size), 1, output_stride=output_stride, **SMALL).eval()
    dilated.load_state_dict(strided.state_dict())
    image = torch.randn(1, 1, *size)
    with torch.no_grad():
        coarse, fine = strided(image), dilated(image)
    for level, (a, b) in enumerate(zip(coarse, fine, strict=True)):
        every = [s // d for s, d in zip(strided.strides[level], dilated.strides[level], strict=True)]
        index = (..., *(slice(None, None, n) for n in every))
        torch.testing.assert_close(b[index], a, atol=1e-4, rtol=1e-4)
    assert max(dilated.strides[-1]) == output_stride


def test_the_other_first_block_rule_and_multi_grid() -> None:
    own = build_encoder("resnet50", 2, 1, output_stride=8, dilate_first_block=True, **SMALL)
    assert [block.conv2.dilation[0] for block in own.layer4] == [4, 4, 4]
    assert [block.conv2.dilation[0] for block in own.layer3] == [2] * 6
    ours = build_encoder("resnet50", 2, 1, output_stride=8, **SMALL)
    assert [block.conv2.dilation[0] for block in ours.layer4] == [2, 4, 4]
    assert [block.conv2.dilation[0] for block in ours.layer3] == [1, 2, 2, 2, 2, 2]
    grid = build_encoder("resnet50", 2, 1, output_stride=16, dilate_first_block=True, multi_grid=(1, 2, 4), **SMALL)
    assert [block.conv2.dilation[0] for block in grid.layer4] == [2, 4, 8]


def test_strides_of_an_anisotropic_volume() -> None:
    strides = [[1, 2, 2], [1, 2, 2], 2, 2, 2]
    encoder = build_encoder("resnet18", 3, 1, strides=strides, output_stride=8, **SMALL).eval()
    assert encoder.strides == ((1, 2, 2), (1, 4, 4), (2, 8, 8), (4, 8, 8), (8, 8, 8))
    assert encoder.steps[-1] == (2, 1, 1)
    assert encoder.layer4[-1].conv2.dilation == (1, 4, 4)
    with torch.no_grad():
        features = encoder(torch.randn(1, 1, 5, 33, 40))
    assert [tuple(f.shape[2:]) for f in features] == [(5, 17, 20), (5, 9, 10), (3, 5, 5), (2, 5, 5), (1, 5, 5)]


@pytest.mark.parametrize("norm", ["instance", "group", "batch", "none"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16"])
def test_every_parameter_learns(name: str, norm: str, layout: torch.memory_format) -> None:
    encoder = build_encoder(name, 2, 2, norm=norm, **SMALL).to(memory_format=layout)
    features = encoder(torch.randn(2, 2, 64, 96).to(memory_format=layout))
    features[-1].square().mean().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def test_checkpointing_changes_nothing_but_memory() -> None:
    image = torch.randn(2, 1, 40, 40)
    results = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        encoder = build_encoder("resnet18", 2, 1, checkpoint=checkpoint, **SMALL)
        encoder(image)[-1].square().sum().backward()
        gradients = {key: parameter.grad for key, parameter in encoder.named_parameters()}
        results.append({**gradients, **dict(encoder.named_buffers())})
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        assert torch.equal(value, results[1][key]), key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "8x8"}, "7x7, deep"),
        ({"strides": [2, 2]}, "5 strides"),
        ({"multi_grid": [1, 2]}, "3 factors"),
        ({"strides": [4, 4, 2, 2, 2], "output_stride": 8}, "stem alone"),
        ({"output_strides": 8}, "output_stride"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder("resnet50", 2, 1, **options)


def test_an_unknown_encoder_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="resnet50"):
        build_encoder("resnet5", 2, 1)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_equal_torchvisions(name: str) -> None:
    models = oracle("torchvision").models
    theirs = models.get_model(name, weights=None)
    theirs.fc = nn.Identity()
    ours = build_encoder(name, 2, 3).eval()
    copy_weights(theirs, ours)
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        pooled = ours(image)[-1].mean((2, 3))
        torch.testing.assert_close(pooled, theirs.eval()(image), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [("vgg16", {}), ("vgg16_bn", {}), ("alexnet", {"padding": 2, "pool_padding": 0})]
)
def test_vgg_and_alexnet_equal_torchvisions(name: str, options: dict) -> None:
    theirs = oracle("torchvision").models.get_model(name, weights=None)
    theirs.avgpool, theirs.classifier = nn.Identity(), nn.Identity()
    ours = build_encoder(name, 2, 3, **options).eval()
    copy_weights(theirs, ours)
    image = torch.randn(1, 3, 64, 96) if name != "alexnet" else torch.randn(1, 3, 127, 63)
    with torch.no_grad():
        torch.testing.assert_close(ours(image)[-1].flatten(1), theirs.eval()(image), atol=1e-4, rtol=1e-4)


def test_vgg_features_before_their_poolings() -> None:
    encoder = build_encoder("vgg16", 2, 1, before_pooling=True, **SMALL)
    assert [stride[0] for stride in encoder.strides] == [1, 2, 4, 8, 16, 32]
    assert [step[0] for step in encoder.steps] == [1, 2, 2, 2, 2, 2]
    assert encoder(torch.randn(1, 1, 32, 32))[0].shape == (1, 8, 32, 32)


def test_every_encoder_can_be_built() -> None:
    assert {"alexnet", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50", "resnet101"} <= set(ENCODERS)
    assert isinstance(build_encoder("resnet34", 3, 4, **SMALL), ResNetEncoder)
