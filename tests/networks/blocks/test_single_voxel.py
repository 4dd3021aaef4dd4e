"""An instance norm over a single voxel would give 0, and its level would learn nothing."""

from __future__ import annotations

import pytest
import torch

from medseg.core.errors import ConfigError
from medseg.networks import build_network
from medseg.networks.blocks.layers import InstanceNorm


@pytest.mark.parametrize("spatial", [(1, 1), (1, 1, 1)])
def test_a_single_voxel_is_refused_in_training(spatial: tuple[int, ...]) -> None:
    norm = InstanceNorm(3)
    with pytest.raises(ConfigError, match=r"network.norm: is instance, over a map of a single voxel\n.*patch_size"):
        norm(torch.zeros(2, 3, *spatial))
    assert norm.eval()(torch.zeros(2, 3, *spatial)).shape == (2, 3, *spatial)
    norm.train()(torch.zeros(2, 3, 2, *spatial[1:]))


def test_a_network_with_too_small_a_patch_says_so() -> None:
    options = {"spatial_dims": 2, "in_channels": 3, "out_channels": 3, "encoder": "resnet18", "norm": "instance"}
    network = build_network("fpn", **options, encoder_options={"width": 0.25}).train()
    with pytest.raises(ConfigError, match="single voxel"):
        network(torch.randn(2, 3, 32, 32))
    network(torch.randn(2, 3, 64, 64))
