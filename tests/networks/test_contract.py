"""What every network of the zoo promises, in two and three dimensions, whatever it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medseg.networks import NETWORKS, ON_ENCODER, build_network, network_part

RESNET = {"encoder": "resnet18", "encoder_options": {"width": 0.125}}
VGG = {"fc_channels": 8, "encoder_options": {"width": 0.125}}
# Options that make each network small; after the name, a second form of a network. A network that is not here is tested
# as it is.
SMALL: dict[str, dict] = {
    "attentionunet": {"widths": [4, 8, 8]},
    "deeplabv1": VGG,
    "deeplabv1_msc": {**VGG, "branch_width": 4},
    "deeplabv2": RESNET,
    "deeplabv3": {**RESNET, "width": 16},
    "deeplabv3plus": {**RESNET, "width": 16},
    "dynunet": {"widths": [4, 8, 8]},
    "efficientfcn": {**RESNET, "width": 16, "wide": 32, "codewords": 8},
    "encnet": {**RESNET, "channels": 16, "codes": 4, "presence": False},
    "fcn": RESNET,
    "fcn16s": VGG,
    "fcn32s": VGG,
    "fcn8s": VGG,
    "fpn": {**RESNET, "pyramid_channels": 16, "segmentation_channels": 16},
    "hrnet": {"encoder": "hrnet_w18s", "encoder_options": {"width": 4, "stem_width": 8}},
    "pspnet": {**RESNET, "width": 16},
    "segresnet": {"blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    "swinunetr": {"width": 12, "window_size": 4, "depths": [1, 1, 1, 1]},
    "unet": {"widths": [4, 8, 8]},
    "unet pooled": {"widths": [4, 8, 8], "downsample": "pool", "upsample": "linear", "residual": True},
    "unet resnet18": {**RESNET, "widths": [4, 4, 8, 8, 8]},
}
SMALL |= {name: {} for name in NETWORKS.own if name not in SMALL}
SIZES = {2: (65, 97), 3: (33, 40, 31)}
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}

every_network = pytest.mark.parametrize("name", sorted(SMALL))
both_dimensions = pytest.mark.parametrize("spatial_dims", [2, 3])


def make(name: str, spatial_dims: int, **options: object) -> nn.Module:
    """The network with `options`, less those that it does not have."""
    torch.manual_seed(0)
    chosen = {**SMALL[name], **{key: value for key, value in options.items() if has(name, key)}}
    return build_network(name.split()[0], spatial_dims=spatial_dims, in_channels=2, out_channels=3, **chosen)


def has(name: str, option: str) -> bool:
    return option in network_part(name.split()[0], SMALL[name].get("encoder")).options


def test_every_network_is_here() -> None:
    assert {name.split()[0] for name in SMALL} == set(NETWORKS.own)
    assert {name.split()[0] for name in SMALL if "encoder" in SMALL[name]} >= set(ON_ENCODER)


def outputs(network: nn.Module, image: Tensor) -> list[Tensor]:
    logits = network(image)
    return logits if isinstance(logits, list) else [logits]


@every_network
@both_dimensions
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_training(name: str, spatial_dims: int, norm: str) -> None:
    """Main logits at the image's size, auxiliary too, in bfloat16 and channels last; every parameter gets a gradient.

    Deep supervision of the plain U-Net is at the size of each level.
    """
    if norm != "batch" and not has(name, "norm"):
        pytest.skip(f"{name} has one norm only")
    size, layout = SIZES[spatial_dims], LAYOUTS[spatial_dims]
    network = make(name, spatial_dims, norm=norm, auxiliary=True).to(memory_format=layout)
    image = torch.randn(1, 2, *size).to(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        logits = outputs(network, image)
    assert len(logits) == 2 if has(name, "auxiliary") or has(name, "deep_supervision") else 1
    for level, found in enumerate(logits):
        halved = level if "levels" in dir(getattr(network, "decoder", None)) else 0
        assert found.shape == (1, 3, *(-(-n // 2**halved) for n in size))
    sum(level.float().square().mean() for level in logits).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.slow
@every_network
@both_dimensions
def test_evaluation(name: str, spatial_dims: int) -> None:
    """One tensor; exported and reloaded networks give the same."""
    network = make(name, spatial_dims, auxiliary=True).eval()
    image = torch.randn(2, 2, *SIZES[spatial_dims])
    with torch.no_grad():
        logits = network(image)
        assert isinstance(logits, Tensor)
        assert logits.shape == (2, 3, *SIZES[spatial_dims])
        exported = torch.export.export(network, (image,)).module()
        torch.testing.assert_close(exported(image), logits, atol=1e-4, rtol=1e-4)
        other = make(name, spatial_dims, auxiliary=True).eval()
        for parameter in other.parameters():
            parameter.fill_(0.5)
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(image), logits)


@every_network
@pytest.mark.parametrize("size", [(64, 64), (1, 33), (50, 41), (17, 9, 20)])
def test_any_size(name: str, size: tuple[int, ...]) -> None:
    network = make(name, len(size)).eval()
    with torch.no_grad():
        logits = network(torch.randn(1, 2, *size))
    assert logits.shape == (1, 3, *size)
    assert torch.isfinite(logits).all()
