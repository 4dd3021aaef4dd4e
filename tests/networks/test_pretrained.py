"""Pretrained weights: what fits is loaded and said, inflation keeps the logits, what does not fit is an error."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from medseg.core.errors import ConfigError
from medseg.networks import build_network
from medseg.networks.encoders import build_encoder
from medseg.networks.pretrained import load_pretrained
from medseg.networks.weights import PACKAGES
from tests.networks.oracles import torchvision

SMALL = {"width": 0.125}
# Every kind of layer: stem with pooling, dilation, depthwise, branches, softmax over positions, resizes.
NETWORKS = {
    "fpn": {"encoder": "resnet18", "encoder_options": SMALL, "pyramid_channels": 8, "segmentation_channels": 8},
    "deeplabv3": {"encoder": "resnet18", "encoder_options": SMALL, "width": 8},
    "efficientfcn": {"encoder": "efficientnet_lite0", "encoder_options": SMALL, "width": 8, "wide": 8, "codewords": 4},
    "hrnet": {"encoder": "hrnet_w18s", "encoder_options": {"width": 4, "stem_width": 4}},
}


def build(name: str, spatial_dims: int, in_channels: int = 3) -> nn.Module:
    torch.manual_seed(spatial_dims)
    options = NETWORKS[name]
    return build_network(name, spatial_dims=spatial_dims, in_channels=in_channels, out_channels=4, **options)


def settle(network: nn.Module) -> nn.Module:
    """Running statistics of real activations: no map is all zero, and none explodes."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(2, 3, 64, 64))
    return network.eval()


def convolutions(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))


@pytest.mark.parametrize("depth_axis", [0, 2])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_volume_constant_along_depth_gives_the_logits_of_the_image(
    name: str, depth_axis: int, tmp_path: Path
) -> None:
    """`centre`: every output voxel sees one slice, so the zeros around the volume do not matter."""
    flat, deep = settle(build(name, 2)), build(name, 3).eval()
    torch.save(flat.state_dict(), tmp_path / "flat.pt")
    report = load_pretrained(deep, tmp_path / "flat.pt", inflate="centre", depth_axis=depth_axis)
    assert not report.kept
    assert not report.left_out
    image = torch.randn(1, 3, 33, 40)
    volume = image.unsqueeze(2 + depth_axis).repeat_interleave(9, dim=2 + depth_axis)
    with torch.no_grad():
        logits, expected = deep(volume), flat(image)
    assert expected.std() > 0.01
    for piece in logits.unbind(2 + depth_axis):
        torch.testing.assert_close(piece, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["fpn", "hrnet"])
def test_mean_inflation_gives_them_without_borders(name: str, tmp_path: Path) -> None:
    """`mean`: exact where a kernel sees no zeros beyond the volume; here the padding wraps around, so everywhere."""
    flat, deep = settle(build(name, 2)), build(name, 3).eval()
    torch.save(flat.state_dict(), tmp_path / "flat.pt")
    load_pretrained(deep, tmp_path / "flat.pt", inflate="mean")
    for network in (flat, deep):
        for conv in convolutions(network):
            conv.padding_mode = "circular"
            conv._reversed_padding_repeated_twice = [p for p in reversed(conv.padding) for _ in range(2)]
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        logits = deep(image.unsqueeze(-1).expand(-1, -1, -1, -1, 32))
        expected = flat(image)
    torch.testing.assert_close(logits, expected.unsqueeze(-1).expand_as(logits), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("inflate", ["mean", "centre"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (4, 2), (3, 1), (5, 2)])
def test_transposed_convolutions_are_inflated_too(inflate: str, kernel: int, stride: int, tmp_path: Path) -> None:
    flat = nn.Sequential(nn.ConvTranspose2d(3, 2, kernel, stride=stride))
    deep = nn.Sequential(nn.ConvTranspose3d(3, 2, kernel, stride=stride))
    torch.save(flat.state_dict(), tmp_path / "flat.pt")
    load_pretrained(deep, tmp_path / "flat.pt", inflate=inflate)
    image = torch.randn(1, 3, 5, 6)
    with torch.no_grad():
        middle = deep(image.unsqueeze(-1).expand(-1, -1, -1, -1, 9))[..., kernel : 9 * stride - kernel]
        expected = flat(image).unsqueeze(-1).expand_as(middle)
    if (kernel, stride, inflate) == (5, 2, "mean"):  # odd and even outputs see 3 and 2 taps: right on average only
        pairs = middle[..., : middle.shape[-1] // 2 * 2].unflatten(-1, (-1, 2)).mean(-1)
        torch.testing.assert_close(pairs, expected[..., : pairs.shape[-1]])
    else:
        torch.testing.assert_close(middle, expected)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_input_channels(channels: int, tmp_path: Path) -> None:
    """Equal channels, however many, give what a grey RGB image gave."""
    rgb, other = settle(build("fpn", 2)), build("fpn", 2, channels).eval()
    torch.save(rgb.state_dict(), tmp_path / "rgb.pt")
    report = load_pretrained(other, tmp_path / "rgb.pt")
    assert report.adapted == (f"encoder.conv1.0.weight (3 -> {channels} input channels)",)
    grey = torch.randn(1, 1, 40, 40)
    with torch.no_grad():
        logits = other(grey.expand(-1, channels, -1, -1))
        torch.testing.assert_close(logits, rgb(grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("alexnet", {}), ("vgg16", {}), ("vgg16_bn", {}), ("resnet18", {}), ("resnet50", {}), ("resnet101", {})],
)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_classifiers_of_torchvision(name: str, options: dict, spatial_dims: int, tmp_path: Path) -> None:
    """Shapes and names only: neither random nor real values matter here, so one element serves for all."""
    with torch.device("meta"):
        theirs = torchvision().models.get_model(name, weights=None).state_dict()
    values = {key: torch.zeros(()).expand(value.shape) for key, value in theirs.items()}
    torch.save(values, tmp_path / "theirs.pth")
    encoder = build_encoder(name, spatial_dims, 1, **options)
    report = load_pretrained(encoder, tmp_path / "theirs.pth")
    assert not report.kept
    assert {key.partition(".")[0] for key in report.left_out} == {"fc" if "resnet" in name else "classifier"}
    assert all(parameter.abs().max() == 0 for parameter in encoder.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("network", "model"), [("fcn", "fcn_resnet50"), ("deeplabv3", "deeplabv3_resnet50")])
@pytest.mark.parametrize("classes", [21, 2])
def test_whole_models_of_torchvision(network: str, model: str, classes: int, tmp_path: Path) -> None:
    options = {"weights": None, "weights_backbone": None, "num_classes": 21, "aux_loss": True}
    torch.manual_seed(0)
    theirs = getattr(torchvision().models.segmentation, model)(**options).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = build_network(network, spatial_dims=2, in_channels=3, out_channels=classes, auxiliary=True).eval()
    report = load_pretrained(ours, tmp_path / "theirs.pth")
    if classes == 21:
        assert report.adapted == report.left_out == report.kept == ()
        image = torch.randn(1, 3, 33, 40)
        with torch.no_grad():
            assert (ours(image) - theirs(image)["out"]).abs().max() < 1e-4
    else:
        assert len(report.left_out) == 4
        assert "head.4.weight (21 classes in the file, 2 here)" in report.left_out
        assert len(report.kept) == 4


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "side"), [("vgg16", 7), ("alexnet", 6)])
def test_fully_connected_layers_become_those_of_fcn(encoder: str, side: int, tmp_path: Path) -> None:
    """On a map of the size for which they were made, fc6 and fc7 give what torchvision's classifier gives."""
    torch.manual_seed(0)
    theirs = torchvision().models.get_model(encoder, weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = build_network(
        "fcn8s" if encoder == "vgg16" else "fcn32s", spatial_dims=2, in_channels=3, out_channels=2, encoder=encoder
    ).eval()
    report = load_pretrained(ours, tmp_path / "theirs.pth")
    assert report.left_out == ("classes.weight", "classes.bias")
    assert len(report.adapted) == 2
    features = torch.randn(1, ours.encoder.channels[-1], side, side)
    with torch.no_grad():
        expected = theirs.classifier[:-1](features.flatten(1))
        torch.testing.assert_close(ours.classifier(features).flatten(1), expected, atol=1e-4, rtol=1e-4)


def test_a_head_of_another_network_is_left_out(tmp_path: Path) -> None:
    options = {"weights": None, "weights_backbone": None, "num_classes": 3}
    theirs = torchvision().models.segmentation.fcn_resnet50(**options)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = build_network("efficientfcn", spatial_dims=2, in_channels=3, out_channels=3)
    report = load_pretrained(ours, tmp_path / "theirs.pth")
    assert {name.partition(".")[0] for name in report.left_out} == {"classifier"}
    assert not [name for name in report.kept if name.startswith("encoder.")]


def test_imagenet_weights_from_the_installed_package() -> None:
    distribution, module, _ = PACKAGES["efficientnet_lite0"]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"the package {distribution} is not installed")
    options = {"encoder": "efficientnet_lite0", "pyramid_channels": 8, "segmentation_channels": 8}
    network = build_network("fpn", spatial_dims=3, in_channels=1, out_channels=2, **options)
    text = str(load_pretrained(network, "efficientnet_lite0"))
    assert "48 adapted" in text
    assert "encoder.conv_stem.weight (2D -> 3D by mean, depth 3, 3 -> 1 input channels)" in text
    assert "8 left out" in text
    assert "conv_head.weight" in text
    assert "pyramid.laterals.0.weight" in text


def test_a_norm_without_running_statistics(tmp_path: Path) -> None:
    torch.save(build_encoder("resnet18", 2, 3, **SMALL).state_dict(), tmp_path / "batch.pt")
    report = load_pretrained(build_encoder("resnet18", 2, 3, norm="instance", **SMALL), tmp_path / "batch.pt")
    assert report.left_out
    assert all("running" in name or "num_batches" in name for name in report.left_out)


def checkpoint(folder: Path, name: str = "resnet18") -> Path:
    torch.save({"state_dict": build_encoder(name, 2, 3, **SMALL).state_dict()}, folder / "weights.pt")
    return folder / "weights.pt"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet34", SMALL, "layer1.2.conv1.weight 8x8x3x3 is not in the file"),
        ("resnet18", {"width": 0.25}, "conv1.weight is 8x3x7x7 in the file, 16x3x7x7 in the network"),
        ("resnet18", {**SMALL, "stem": "deep"}, "conv1.weight 8x3x7x7 is in the file, not in the network"),
        ("efficientnet_lite0", SMALL, "does not fit EfficientNetLite0Encoder"),
    ],
)
def test_a_file_that_does_not_fit_says_what_differs(name: str, options: dict, message: str, tmp_path: Path) -> None:
    encoder = build_encoder(name, 2, 3, **options)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(ConfigError, match=message):
        load_pretrained(encoder, checkpoint(tmp_path))
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_deeper_network_does_not_pass_for_a_shallower_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"layer1.2.conv1.weight 8x8x3x3 is in the file, not in the network"):
        load_pretrained(build_encoder("resnet18", 2, 3, **SMALL), checkpoint(tmp_path, "resnet34"))


def test_unusable_files_are_explained(tmp_path: Path) -> None:
    encoder = build_encoder("resnet18", 2, 3, **SMALL)
    with pytest.raises(ConfigError, match=r"absent.pt is not a file\n.*efficientnet_lite0"):
        load_pretrained(encoder, tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(ConfigError, match="is not a file of tensors"):
        load_pretrained(encoder, tmp_path / "text.pt")
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "code.pt")
    with pytest.raises(ConfigError, match="is not a file of tensors"):
        load_pretrained(encoder, tmp_path / "code.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(ConfigError, match="holds no tensors; its keys: epoch"):
        load_pretrained(encoder, tmp_path / "empty.pt")
    with pytest.raises(ValueError, match="inflate 'center' is unknown; known: mean, centre"):
        load_pretrained(encoder, tmp_path / "empty.pt", inflate="center")
