"""Counts by hand, and of pretended networks against real ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medseg.networks import build_network
from medseg.networks.analysis.pretended import Pretended
from medseg.networks.analysis.summary import count_activation_bytes, count_gmac, count_parameters

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"widths": [4, 8, 8]},
    "fcn": {"encoder": "resnet18", "encoder_options": {"width": 0.125}},
    "encnet": {"encoder": "resnet18", "encoder_options": {"width": 0.125}, "channels": 8, "codes": 4},
}


def test_a_convolution_by_hand() -> None:
    network = nn.Conv3d(2, 5, (3, 3, 1), bias=False)
    image = torch.zeros(1, 2, 6, 5, 4)
    assert count_parameters(network) == 2 * 5 * 9
    assert count_gmac(network, image) == pytest.approx(2 * 5 * 9 * (4 * 3 * 4) / 1e9)
    assert count_activation_bytes(network, image) == image.nbytes  # for the gradient of the weights


def test_memory_counts_once_however_many_keep_it() -> None:
    class Squares(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.requires_grad_() * 1.0  # keeps nothing: the factor is a number
            z = y * y + y.view(-1).sin().view(x.shape)  # y, three times
            return z.relu()  # its result

    image = torch.randn(1, 1, 4, 4)
    assert count_activation_bytes(Squares(), image) == 2 * image.nbytes


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_a_pretended_network_counts_as_the_real_one(name: str, spatial_dims: int) -> None:
    def build() -> nn.Module:
        return build_network(name, spatial_dims=spatial_dims, in_channels=2, out_channels=3, **SMALL[name])

    layout = torch.channels_last if spatial_dims == 2 else torch.channels_last_3d
    shape = (1, 2, *(33, 48, 40)[:spatial_dims])
    real = build().to(memory_format=layout)  # type: ignore[call-overload]
    pretended = Pretended.built(build)
    pretended.lay_out(layout)
    image = torch.zeros(shape).contiguous(memory_format=layout)
    with pretended.mode:
        shapes = torch.zeros(shape).contiguous(memory_format=layout)
        found = [count(pretended.module, shapes) for count in (count_gmac, count_activation_bytes)]
    assert count_parameters(pretended.module) == count_parameters(real)
    assert found == [count(real, image) for count in (count_gmac, count_activation_bytes)]


def test_what_is_pretended_takes_no_memory() -> None:
    pretended = Pretended.built(lambda: nn.Linear(10**6, 10**7))  # 40 TB
    assert count_parameters(pretended.module) == 10**13 + 10**7


def test_a_constructor_that_reads_values_is_run_for_real() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            rates = [rate.item() for rate in torch.linspace(1, 3, 3)]
            self.layers = nn.ModuleList(nn.Conv2d(1, 1, int(rate)) for rate in rates)
            self.register_buffer("offset", torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x + self.offset

    pretended = Pretended.built(Reads)
    with pretended.mode:
        assert pretended.module(torch.empty(1, 1, 10**7, 10**7)).shape == (1, 1, 10**7 - 3, 10**7 - 3)
