"""U-Net on any encoder: the counts and logits of segmentation-models-pytorch, any size, every encoder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from medseg.core.errors import ConfigError
from medseg.losses.auxiliary import AuxiliaryHeads
from medseg.losses.dice_ce import DiceCrossEntropy
from medseg.networks import build_network
from medseg.networks.blocks.layers import resize
from medseg.networks.encoders import build_encoder
from medseg.networks.encoderunet import EncoderUNet
from medseg.networks.pretrained import load_pretrained
from tests.networks.oracles import copy_weights, largest_difference, segmentation_models, timm

SMALL = {"encoder_options": {"width": 0.125}}
HRNET = {"encoder_options": {"width": 4, "stem_width": 8}}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("encoder", "classes", "parameters"),
    [
        ("resnet34", 21, 24_439_269),
        ("resnet34", 19, 24_438_979),
        ("resnet34", 150, 24_457_974),
        ("resnet50", 21, 32_524_005),
        ("resnet50", 150, 32_542_710),
    ],
)
def test_parameters_as_published(encoder: str, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(EncoderUNet(2, 3, classes, encoder=encoder)) == parameters


def test_parameters_in_three_dimensions() -> None:
    """The encoder's as published for kernels of k^3, the decoder's by hand."""
    with torch.device("meta"):
        network = EncoderUNet(3, 1, 4, encoder="resnet18")
    widths, skips = (512, 256, 128, 64, 32, 16), (256, 128, 64, 64, 0)
    levels = [
        27 * (below + skip + width) * width + 4 * width
        for below, skip, width in zip(widths[:-1], skips, widths[1:], strict=True)
    ]
    assert count(network.encoder) == 33_203_904 - 2 * 64 * 7**3  # one channel, not three
    assert count(network) - count(network.encoder) == sum(levels) + 27 * 16 * 4 + 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "size", "options"),
    [
        ("resnet34", (96, 64), {}),
        ("resnet34", (65, 97), {}),
        ("resnet50", (64, 64), {"upsample": "linear"}),
    ],
)
def test_logits_equal_those_of_segmentation_models_pytorch(encoder: str, size: tuple[int, ...], options: dict) -> None:
    interpolation = "bilinear" if options else "nearest"
    theirs = segmentation_models().Unet(encoder, encoder_weights=None, classes=21, decoder_interpolation=interpolation)
    ours = EncoderUNet(2, 3, 21, encoder=encoder, **options)

    def block(found: re.Match) -> str:
        return f"climbs.{4 - int(found[1])}.blocks.{int(found[2]) - 1}."

    copy_weights(theirs, ours, (r"decoder\.blocks\.(\d)\.conv(\d)\.", block), (r"segmentation_head\.0\.", "head."))
    difference, spread = largest_difference(ours, theirs, torch.randn(2, 3, *size))
    assert spread > 0.1
    assert difference < 1e-4


@pytest.mark.parametrize("size", [(64, 64), (65, 41), (33, 32, 31), (5, 3), (1, 7), (3, 1, 2)])
@pytest.mark.parametrize("upsample", ["nearest", "linear", "transposed"])
def test_any_size(size: tuple[int, ...], upsample: str) -> None:
    network = EncoderUNet(len(size), 2, 3, encoder="resnet18", upsample=upsample, widths=[4] * 5, **SMALL).eval()
    logits = network(torch.randn(2, 2, *size))
    assert logits.shape == (2, 3, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("alexnet", SMALL),
        ("efficientnet_lite0", SMALL),
        ("hrnet_w18s", HRNET),
        ("plain", {"encoder_options": {"widths": [4, 8, 12]}}),
        ("vgg16", SMALL),
        ("vgg16_bn", SMALL),
    ],
)
@pytest.mark.parametrize("size", [(65, 41), (33, 20, 31)])
def test_on_other_encoders(encoder: str, options: dict, size: tuple[int, ...]) -> None:
    network = EncoderUNet(len(size), 1, 2, encoder=encoder, **options)
    levels = len(network.climbs)
    network = EncoderUNet(len(size), 1, 2, encoder=encoder, auxiliary=True, widths=[4] * levels, **options)
    outputs = network(torch.randn(2, 1, *size))
    assert [tuple(output.shape) for output in outputs] == [(2, 2, *size)] * 2
    sum(output.square().mean() for output in outputs).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_every_feature_is_joined_at_its_own_size() -> None:
    """Nothing is left out: the logits depend on each feature, and VGG's first has the image's size."""
    network = EncoderUNet(2, 1, 2, encoder="vgg16", **SMALL).eval()
    assert [max(stride) for stride in network.encoder.strides] == [1, 2, 4, 8, 16, 32]
    assert len(network.climbs) == 5
    features = [torch.randn(1, width, -(-40 // 2**level), 48) for level, width in enumerate(network.encoder.channels)]
    features = [feature[..., : -(-48 // 2**level)].requires_grad_() for level, feature in enumerate(features)]
    network.encoder.forward = lambda x: features  # type: ignore[method-assign]
    gradients = torch.autograd.grad(network(torch.randn(1, 1, 40, 48)).sum(), features)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_norm_is_the_encoders_own_unless_given() -> None:
    kinds = [
        {type(module).__name__ for module in part.modules() if "Norm" in type(module).__name__}
        for norm in (None, "instance")
        for network in [EncoderUNet(3, 1, 2, encoder="vgg16", norm=norm, **SMALL)]
        for part in (network.encoder, network.climbs)
    ]
    assert kinds == [set(), {"BatchNorm3d"}, {"InstanceNorm"}, {"InstanceNorm"}]


@pytest.mark.parametrize(("encoder", "spatial_dims"), [("resnet18", 2), ("resnet18", 3), ("vgg16", 3)])
def test_pretrained_weights_reach_the_encoder(encoder: str, spatial_dims: int, tmp_path: Path) -> None:
    """A classifier's file, in 2D and for RGB, fills the whole encoder and nothing else."""
    source = build_encoder(encoder, 2, 3, width=0.125)
    torch.save({**source.state_dict(), "fc.weight": torch.zeros(10, 64)}, tmp_path / "weights.pt")
    network = EncoderUNet(spatial_dims, 1, 2, encoder=encoder, **SMALL)
    report = load_pretrained(network, tmp_path / "weights.pt")
    assert report.left_out == ("fc.weight",)
    assert {name.split(".")[0] for name in report.kept} == {"climbs", "head"}
    wanted = {f"encoder.{name}" for name in source.state_dict()}
    assert wanted == {*report.loaded, *(note.split(" ")[0] for note in report.adapted)}


def test_strides_an_axis() -> None:
    options = {"width": 0.125, "strides": [[1, 2, 2], [1, 2, 2], 2, 2, 2]}
    network = EncoderUNet(3, 1, 2, encoder="resnet18", encoder_options=options, upsample="transposed").eval()
    assert network.encoder.strides[0] == (1, 2, 2)
    assert network.climbs[0].transposed.conv.kernel_size == (1, 2, 2)
    assert network(torch.randn(1, 1, 5, 33, 40)).shape == (1, 2, 5, 33, 40)


@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_encoder(stride: int) -> None:
    options = {"width": 0.125, "output_stride": stride}
    network = EncoderUNet(2, 1, 2, encoder="resnet18", encoder_options=options).eval()
    assert network(torch.randn(1, 1, 33, 40)).shape == (1, 2, 33, 40)


def test_on_a_timm_model() -> None:
    timm()
    network = EncoderUNet(2, 4, 3, encoder="timm", encoder_options={"model": "convnext_atto", "norm": "own"})
    assert [max(stride) for stride in network.encoder.strides] == [4, 8, 16, 32]
    assert network.eval()(torch.randn(1, 4, 65, 97)).shape == (1, 3, 65, 97)


@pytest.mark.parametrize("size", [(40, 33), (16, 17, 18)])
@pytest.mark.parametrize("upsample", ["nearest", "transposed"])
def test_exports(size: tuple[int, ...], upsample: str) -> None:
    network = EncoderUNet(len(size), 1, 2, encoder="resnet18", upsample=upsample, widths=[4] * 5, **SMALL).eval()
    x = torch.randn(2, 1, *size)
    exported = torch.export.export(network, (x,))
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsample": "cubic"}, "upsample 'cubic' is unknown; known: nearest, linear, transposed"),
        ({"widths": [8, 8, 8]}, "widths needs one entry a level: got 3 for 5 on resnet18"),
        ({"residual": True}, "unet has no option 'residual'"),
        ({"encoder": "resnet19"}, "did you mean 'resnet18'"),
        (
            {"encoder": "plain", "encoder_options": {"widths": [8, 8], "strides": [2, 1]}},
            "has features of stride 2, 2: a U-Net needs finer ones",
        ),
    ],
)
def test_mistakes_are_explained(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network("unet", spatial_dims=2, in_channels=1, out_channels=2, **{"encoder": "resnet18", **options})


def test_presence_is_learnt_in_training_and_changes_no_prediction() -> None:
    torch.manual_seed(0)
    network = EncoderUNet(2, 1, 3, encoder="resnet18", presence=True, **SMALL)
    image = torch.randn(2, 1, 64, 48)
    logits, presence = network(image)
    assert logits.shape == (2, 3, 64, 48)
    assert presence.shape == (2, 3)
    loss = AuxiliaryHeads(DiceCrossEntropy())([logits, presence], torch.zeros(2, 1, 64, 48, dtype=torch.long))
    loss.backward()
    assert network.presence is not None
    assert network.presence.weight.grad is not None
    assert network.presence.weight.grad.abs().sum() > 0
    assert isinstance(network.eval()(image), torch.Tensor)


@pytest.mark.parametrize("size", [(64, 48), (45, 70)])
def test_without_the_climb_to_the_image_the_finest_feature_has_the_logits(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    whole = EncoderUNet(2, 1, 3, encoder="resnet18", **SMALL)
    short = EncoderUNet(2, 1, 3, encoder="resnet18", climb_to_image=False, **SMALL).eval()
    assert len(short.climbs) == len(whole.climbs) - 1
    image = torch.randn(1, 1, *size)
    features = short.encoder(image)
    finest = features[0].shape[2:]
    assert short(image).shape[2:] == size
    y = features[-1]
    for climb, skip in zip(reversed(short.climbs), reversed(features[:-1]), strict=True):
        y = climb(y, skip.shape[2:], skip)
    assert y.shape[2:] == finest
    torch.testing.assert_close(short(image), resize(short.head(y), size))
