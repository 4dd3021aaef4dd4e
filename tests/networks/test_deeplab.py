"""DeepLab v1 to v3+: published counts, torchvision's and segmentation-models-pytorch's logits, scales and branches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.networks.deeplabv1 import DeepLabV1, DeepLabV1MultiScale
from medseg.networks.deeplabv2 import DeepLabV2
from medseg.networks.deeplabv3 import DeepLabV3
from medseg.networks.deeplabv3plus import DeepLabV3Plus
from tests.networks.oracles import copy_weights, largest_difference, oracle

SMALL = {"encoder_options": {"width": 0.125}}
SMP = {"align_corners": True, "rates": (12, 24, 36), "encoder_options": {"dilate_first_block": True}}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "options", "classes", "parameters"),
    [
        (DeepLabV1, {}, 21, 20_505_429),
        (DeepLabV1, {}, 150, 20_637_654),
        (DeepLabV1MultiScale, {}, 21, 21_711_445),
        (DeepLabV1MultiScale, {}, 19, 21_708_115),
        (DeepLabV2, {}, 21, 44_048_532),
        (DeepLabV2, {"encoder": "resnet50"}, 19, 24_908_940),
        (DeepLabV3, {"auxiliary": True}, 21, 42_004_074),
        (DeepLabV3, {}, 21, 39_638_869),
        (DeepLabV3, {"auxiliary": True}, 4, 41_995_336),
        (DeepLabV3, {"encoder": "resnet101", "auxiliary": True}, 21, 60_996_202),
        (DeepLabV3, {"encoder": "resnet101"}, 150, 58_664_150),
        (DeepLabV3Plus, {}, 21, 39_761_845),
        (DeepLabV3Plus, {"encoder": "resnet101"}, 19, 58_753_459),
        (DeepLabV3Plus, {"separable": True}, 21, 26_682_725),
        (DeepLabV3Plus, {"separable": True, "encoder": "resnet101"}, 150, 45_708_006),
    ],
)
def test_parameters_as_published(network: type[nn.Module], options: dict, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(network(2, 3, classes, **options)) == parameters


def test_parameters_in_3d() -> None:
    with torch.device("meta"):
        assert count(DeepLabV3(3, 3, 4, auxiliary=True)) == 98_896_072


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_v3_logits_equal_torchvisions(name: str) -> None:
    models = oracle("torchvision").models.segmentation
    theirs = getattr(models, f"deeplabv3_{name}")(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    ours = DeepLabV3(2, 3, 21, encoder=name, auxiliary=True)
    copy_weights(theirs, ours, ("^backbone", "encoder"), ("^classifier", "head"), ("^aux_classifier", "auxiliary"))
    difference, deviation = largest_difference(ours, theirs, torch.randn(1, 3, 65, 97))
    assert difference < 1e-4
    assert deviation > 0.01


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_v3_logits_equal_segmentation_models(name: str) -> None:
    theirs = oracle("segmentation_models_pytorch").DeepLabV3(name, encoder_weights=None, classes=21)
    ours = DeepLabV3(2, 3, 21, encoder=name, **SMP)
    copy_weights(
        theirs,
        ours,
        (r"^decoder\.aspp", "head.0"),
        (r"^decoder\.conv", "head.1"),
        (r"^decoder\.bn", "head.2"),
        (r"^segmentation_head\.0", "head.4"),
    )
    difference, deviation = largest_difference(ours, theirs, torch.randn(1, 3, 64, 96))
    assert difference < 1e-4
    assert deviation > 0.01


@pytest.mark.parametrize(("name", "output_stride"), [("resnet34", 16), ("resnet50", 16), ("resnet50", 8)])
def test_v3plus_logits_equal_segmentation_models(name: str, output_stride: int) -> None:
    theirs = oracle("segmentation_models_pytorch").DeepLabV3Plus(
        name, encoder_weights=None, classes=21, encoder_output_stride=output_stride
    )
    ours = DeepLabV3Plus(2, 3, 21, encoder=name, separable=True, output_stride=output_stride, **SMP)
    copy_weights(
        theirs,
        ours,
        (r"^decoder\.aspp\.0", "aspp.0"),
        (r"^decoder\.aspp\.1", "aspp.1.0"),
        (r"^decoder\.aspp\.2", "aspp.1.1"),
        (r"^decoder\.block1", "low_level"),
        (r"^decoder\.block2", "refine"),
        (r"^segmentation_head\.0", "head"),
    )
    difference, deviation = largest_difference(ours, theirs, torch.randn(1, 3, 64, 96))
    assert difference < 1e-4
    assert deviation > 0.01


def test_rates_follow_the_stride() -> None:
    for output_stride, rates in {8: [12, 24, 36], 16: [6, 12, 18], 32: [3, 6, 9]}.items():
        network = DeepLabV3(2, 1, 2, encoder="resnet18", output_stride=output_stride, width=8, **SMALL)
        assert [conv[0].dilation[0] for conv in network.head[0].convs[1:4]] == rates


def test_v1_is_large_field_of_view() -> None:
    network = DeepLabV1(2, 3, 21, **SMALL)
    assert network.encoder.strides[-1] == (8, 8)
    assert network.encoder.features[-2].__class__ is nn.ReLU
    assert network.encoder.features[-3].dilation == (2, 2)
    assert network.fc6[0].dilation == (12, 12)


def test_v1_scales_all_reach_the_logits() -> None:
    network = DeepLabV1MultiScale(2, 1, 2, fc_channels=8, branch_width=4, **SMALL).eval()
    assert [branch[0].stride[0] for branch in network.branches] == [8, 4, 2, 1, 1]
    image = torch.randn(1, 1, 40, 41)
    with torch.no_grad():
        before = network(image)
        for branch in network.branches:
            branch[3].bias += 100.0
            after = network(image)
            assert (after - before).abs().max() > 1
            before = after


def test_v2_takes_the_largest_of_its_scales() -> None:
    torch.manual_seed(0)
    network = DeepLabV2(2, 1, 2, encoder="resnet18", scales=(0.5, 0.75), **SMALL)
    image = torch.randn(2, 1, 64, 72)
    best, *pyramid = network(image)
    assert len(pyramid) == 3
    assert all(scores.shape == best.shape == (2, 2, 64, 72) for scores in pyramid)
    on_grid = [scores[..., 4::8, 4::8] for scores in pyramid]
    assert (best[..., 4::8, 4::8] >= torch.stack(on_grid).amax(0) - 1e-6).all()
    assert isinstance(network.eval()(image), torch.Tensor)


def test_v2_sums_its_rates() -> None:
    torch.manual_seed(0)
    network = DeepLabV2(2, 1, 2, encoder="resnet18", **SMALL).eval()
    image = torch.randn(1, 1, 65, 65)
    with torch.no_grad():
        feature = network.encoder(image)[-1]
        expected = sum(conv(feature) for conv in network.aspp)
        expected = nn.functional.interpolate(expected, size=(65, 65), mode="bilinear")
        torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
def test_image_pooling_trains_on_a_batch_of_one(norm: str) -> None:
    torch.manual_seed(0)
    network = DeepLabV3(2, 1, 2, encoder="resnet18", norm=norm, width=16, **SMALL)  # two channels in each group
    logits = network(torch.randn(1, 1, 64, 64))
    assert torch.isfinite(logits).all()
    logits.square().mean().backward()
    pooling = network.head[0].convs[-1][1]
    assert pooling.weight.grad.abs().sum() > 0
