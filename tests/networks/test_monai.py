"""MONAI's networks by name: the logits of MONAI's own classes, and any size of image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks import nets
from torch import nn
from torch.nn import functional as F

from medseg.core.errors import ConfigError
from medseg.networks import NETWORKS, build_network
from medseg.networks.blocks.convolution import Conv3d
from medseg.networks.blocks.monai import padded

AFFINE = ("instance", {"affine": True})
# Name of the network, our options, MONAI's class and its arguments.
PAIRS: dict[str, tuple[str, dict, type[nn.Module], dict]] = {
    "segresnet": ("segresnet", {}, nets.SegResNet, {}),
    "segresnet, options": (
        "segresnet",
        {
            "width": 16,
            "blocks_down": [1, 1, 2],
            "blocks_up": [2, 1],
            "norm": "instance",
            "dropout": 0.2,
            "upsample": "transposed",
        },
        nets.SegResNet,
        {
            "init_filters": 16,
            "blocks_down": (1, 1, 2),
            "blocks_up": (2, 1),
            "norm": AFFINE,
            "dropout_prob": 0.2,
            "upsample_mode": "deconv",
        },
    ),
    "dynunet": (
        "dynunet",
        {"widths": [4, 8, 8, 12]},
        nets.DynUNet,
        {
            "kernel_size": [3, 3, 3, 3],
            "strides": [1, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2],
            "filters": [4, 8, 8, 12],
            "norm_name": AFFINE,
            "deep_supervision": True,
            "deep_supr_num": 2,
        },
    ),
    "dynunet, options": (
        "dynunet",
        {
            "widths": [8, 16, 16],
            "residual": True,
            "norm": "group",
            "deep_supervision": False,
            "kernel_sizes": [1, 3, 3],
        },
        nets.DynUNet,
        {
            "kernel_size": [1, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [8, 16, 16],
            "norm_name": ("group", {"num_groups": 8}),
            "res_block": True,
        },
    ),
    "attentionunet": (
        "attentionunet",
        {"widths": [4, 8, 16]},
        nets.AttentionUnet,
        {"channels": [4, 8, 16], "strides": [2, 2]},
    ),
    "swinunetr": ("swinunetr", {"width": 12, "window_size": 4}, nets.SwinUNETR, {"feature_size": 12, "window_size": 4}),
    "swinunetr, options": (
        "swinunetr",
        {"width": 12, "depths": [1, 2, 1, 1], "attention_heads": [2, 3, 4, 6], "norm": "batch", "v2": True},
        nets.SwinUNETR,
        {"feature_size": 12, "depths": (1, 2, 1, 1), "num_heads": (2, 3, 4, 6), "norm_name": "batch", "use_v2": True},
    ),
}
SMALL: dict[str, dict[str, Any]] = {
    "attentionunet": {"widths": [4, 8, 8]},
    "dynunet": {"widths": [4, 8, 8]},
    "segresnet": {},
    "swinunetr": {"width": 12, "window_size": 4, "depths": [1, 1, 1, 1]},
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_logits_are_those_of_monais_class(pair: str, spatial_dims: int) -> None:
    """Parameters have MONAI's names, so weights pass both ways; training mode with batch norm's own statistics."""
    name, options, theirs_class, arguments = PAIRS[pair]
    torch.manual_seed(0)
    theirs = theirs_class(spatial_dims=spatial_dims, in_channels=2, out_channels=3, **arguments)
    ours = build_network(name, spatial_dims=spatial_dims, in_channels=2, out_channels=3, **options)
    ours.load_state_dict(theirs.state_dict())
    fitting = 32 if name == "swinunetr" else 8
    image = torch.randn(1, 2, *([fitting] * (spatial_dims - 1)), 2 * fitting)
    with torch.no_grad():
        if "dropout" not in options:
            expected, logits = theirs(image), ours(image)
            if isinstance(logits, list):
                assert len(logits) == 1 + arguments["deep_supr_num"]
                logits = torch.stack(logits, dim=1)
            assert torch.equal(logits, expected)
        expected = theirs.eval()(image)
        assert expected.std() > 0.01
        assert torch.equal(ours.eval()(image), expected)


@pytest.mark.parametrize(("name", "kind"), [("segresnet", nets.SegResNet), ("swinunetr", nets.SwinUNETR)])
def test_defaults_are_monais(name: str, kind: type[nn.Module]) -> None:
    ours = build_network(name, spatial_dims=2, in_channels=1, out_channels=2).state_dict()
    theirs = kind(spatial_dims=2, in_channels=1, out_channels=2).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


def test_default_dynunet_is_nnunets() -> None:
    """MONAI's own widths where none are given: twice as many at each level, up to 320 in 3D."""
    theirs = nets.DynUNet(3, 1, 2, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, norm_name=AFFINE)
    assert list(NETWORKS["dynunet"].load()(3, 1, 2).filters) == list(theirs.filters)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(5, 3), (33, 41), (3, 1, 2), (17, 33, 9)])
def test_an_image_that_does_not_fit_is_padded_with_its_last_voxels(name: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = build_network(name, spatial_dims=len(size), in_channels=2, out_channels=3, **SMALL[name]).eval()
    image = torch.randn(1, 2, *size)
    with torch.no_grad():
        logits = network(image)
        assert logits.shape == (1, 3, *size)
        longer = image
        for axis, multiple in enumerate(network.multiples):
            missing = -size[axis] % multiple
            if (
                size[axis] + missing == multiple
                and axis == len(size) - 1
                and longer.shape[2:-1] == network.multiples[:-1]
            ):
                missing += multiple  # a single voxel at the coarsest level would have no variance
            last = longer.narrow(axis + 2, size[axis] - 1, 1)
            longer = torch.cat((longer, *[last] * missing), dim=axis + 2)
        whole = network(longer)
    assert torch.equal(logits, whole[(..., *(slice(n) for n in size))])


def test_padding_keeps_what_fits_and_the_memory_format() -> None:
    image = torch.randn(1, 2, 16, 8, 24).to(memory_format=torch.channels_last_3d)
    assert padded(image, (8, 8, 8)) is image
    longer = padded(image[..., :23].contiguous(memory_format=torch.channels_last_3d), (16, 16, 16))
    assert longer.shape == (1, 2, 16, 16, 32)
    assert longer.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("name", ["attentionunet", "dynunet"])
def test_strides_an_axis(name: str) -> None:
    options = {"widths": [4, 8, 8], "strides": [1, [1, 2, 2], 2]}
    network = build_network(name, spatial_dims=3, in_channels=1, out_channels=2, **options).eval()
    assert network.multiples == (2, 4, 4)
    assert network(torch.randn(1, 1, 5, 18, 24)).shape == (1, 2, 5, 18, 24)


@pytest.mark.parametrize("name", SMALL)
def test_convolutions_are_safe_on_a_cpu(name: str) -> None:
    network = build_network(name, spatial_dims=3, in_channels=1, out_channels=2, **SMALL[name])
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert convolutions
    assert all(isinstance(module, Conv3d) for module in convolutions)


def test_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        network = NETWORKS["swinunetr"].load()(2, 1, 2, checkpoint=checkpoint, **SMALL["swinunetr"])
        network(torch.ones(1, 1, 64, 32).cumsum(2) / 64).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("segresnet", {"width": 12}, "width 12 must be a multiple of 8"),
        ("segresnet", {"blocks_up": [1]}, "blocks_up needs 3 entries"),
        ("segresnet", {"upsample": "nearest"}, "upsample 'nearest' is unknown; known: linear, transposed"),
        ("segresnet", {"norm": "layer"}, "norm 'layer' is unknown"),
        ("segresnet", {"widths": [8, 16]}, "did you mean 'width'"),
        ("dynunet", {"widths": [8, 16]}, "needs at least three levels, got 2 widths"),
        ("dynunet", {"strides": [2, 2, 2, 2, 2]}, "the first stride must be 1, got 2"),
        ("dynunet", {"strides": [1, 2]}, "strides needs one entry a level: got 2 for 5 widths"),
        ("dynunet", {"kernel_sizes": [3, 3]}, "kernel_sizes needs one entry a level"),
        ("attentionunet", {"strides": [1, 2, 2, 2, [2, 2]]}, "must have 3 numbers"),
        ("swinunetr", {"width": 16}, "feature_size should be divisible by 12|3 do not divide the 16 channels"),
        ("swinunetr", {"depths": [2, 2]}, "four stages"),
    ],
)
def test_mistakes_are_explained(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(name, spatial_dims=3, in_channels=1, out_channels=2, **options)


def test_repeated_voxels_are_pytorchs() -> None:
    image = torch.randn(1, 1, 5, 6)
    assert torch.equal(padded(image, (4, 4)), F.pad(image, (0, 2, 0, 3), mode="replicate"))
