"""The arithmetic of a step's operators, against PyTorch's own counter and by hand, and what its seconds are for."""

from __future__ import annotations

import pytest
import torch
from bench_operators import CAUSES, REST, Timed, divided
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

PEAK, RATE = 1e12, 1e10


def timed(network: nn.Module, image: torch.Tensor) -> Timed:
    with Timed(image.shape[2:], PEAK, RATE, iter(range(10**6)).__next__) as mode:
        network(image).sum().backward()
    return mode


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(4, 6, 3, stride=2, padding=1),
        nn.ConvTranspose3d(4, 6, 2, stride=2),
        nn.Sequential(nn.Conv3d(4, 8, 3, padding=1), nn.Conv3d(8, 2, 1)),
    ],
    ids=["strided", "transposed", "two"],
)
@pytest.mark.parametrize("learns_image", [True, False])
def test_flop_are_those_of_pytorchs_counter(layer: nn.Module, learns_image: bool) -> None:
    image = torch.randn(2, 4, 8, 8, 6, requires_grad=learns_image)
    with FlopCounterMode(display=False) as counter:
        layer(image).sum().backward()
    assert sum(cost.flop for cost in timed(layer, image).levels.values()) == counter.get_total_flops()


def test_depthwise_convolutions_are_told_apart() -> None:
    image = torch.randn(1, 8, 16, 16)
    found = timed(nn.Conv2d(8, 8, 3, padding=1, groups=8), image).levels["1x1"]
    assert found.flop == 0
    assert found.seconds["depthwise"] == 2


def test_levels_are_strides_whatever_is_padded() -> None:
    network = nn.Sequential(
        nn.ConstantPad3d((0, 1, 0, 1, 0, 1), 0.0), nn.Conv3d(1, 2, 3, stride=(2, 2, 1)), nn.Conv3d(2, 2, 1)
    )
    levels = timed(network, torch.randn(1, 1, 16, 16, 16)).levels
    assert {level for level, cost in levels.items() if cost.flop} == {"1x1x1", "2x2x1"}
    assert REST in levels


@pytest.mark.parametrize(
    ("seconds", "flop", "size", "expected"),
    [
        (4.0, 2e12, 3e10, {"arithmetic": 2.0, "memory": 1.0, "kernels": 1.0}),
        (4.0, 3e12, 1e10, {"arithmetic": 3.0, "memory": 0.0, "kernels": 1.0}),
        (1.0, 3e12, 9e10, {"arithmetic": 1.0, "memory": 0.0, "kernels": 0.0}),
        (4.0, 1e12, 9e10, {"arithmetic": 1.0, "memory": 3.0, "kernels": 0.0}),
    ],
)
def test_seconds_are_divided_by_cause(seconds: float, flop: float, size: float, expected: dict[str, float]) -> None:
    found = divided(seconds, flop, size, 32, PEAK, RATE)
    assert found == expected
    assert sum(found.values()) == seconds
    assert divided(seconds, flop, size, 31, PEAK, RATE)["narrow"] == expected["kernels"]
    assert set(found) <= set(CAUSES)
