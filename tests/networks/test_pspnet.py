"""PSPNet: published counts, grids of means."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.networks.pspnet import PSPNet, PyramidPooling


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("encoder", "auxiliary", "classes", "parameters"),
    [
        ("resnet50", True, 21, 49_081_578),
        ("resnet50", False, 21, 46_716_373),
        ("resnet50", True, 19, 49_080_038),
        ("resnet101", True, 21, 68_073_706),
        ("resnet101", False, 150, 65_774_678),
    ],
)
def test_parameters_as_published(encoder: str, auxiliary: bool, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(PSPNet(2, 3, classes, encoder=encoder, auxiliary=auxiliary)) == parameters


def test_parameters_with_mmsegs_stem() -> None:
    """mmsegmentation pools to 512 channels as well, and its stem is 32-32-64."""
    with torch.device("meta"):
        assert count(PSPNet(2, 3, 21, auxiliary=True, encoder_options={"stem": "deep"})) == 48_977_034


@pytest.mark.parametrize("size", [(12, 18), (6, 6, 12)])
def test_pooling_means_over_cells(size: tuple[int, ...]) -> None:
    """With an identity for 1x1 convolutions and no norm, a part of the output is the mean of its cell."""
    pooling = PyramidPooling(len(size), 2, (1, 2), norm="none").eval()
    with torch.no_grad():
        for conv, _, _ in pooling.convs:
            conv.weight.fill_(1.0)
            conv.bias.zero_()
        x = torch.rand(1, 2, *size)
        out = pooling(x)
    assert out.shape == (1, 4, *size)
    torch.testing.assert_close(out[:, :2], x)
    torch.testing.assert_close(out[:, 2], x.sum(1).mean().expand(1, *size))
    corner = (0, slice(None), *(slice(0, n // 2) for n in size))
    first = (0, 3, *(0 for _ in size))  # aligned corners: the corner voxel has the value of its cell
    torch.testing.assert_close(out[first], x[corner].sum(0).mean())


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_every_grid_learns_from_a_batch_of_one(norm: str) -> None:
    network = PSPNet(2, 1, 2, encoder="resnet18", norm=norm, width=8, encoder_options={"width": 0.125})
    network(torch.randn(1, 1, 97, 97)).square().mean().backward()
    for layers in network.pyramid.convs:
        assert layers[0].weight.grad.abs().sum() > 0
