"""Axis after axis gives what PyTorch's sampling of every voxel's position gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medseg.inference import sampling
from medseg.inference.sampling import sample
from tests.pretended_device import pretended_gpu

MAPS = {
    "finer": (np.diag([0.31, 0.47, 0.8]), [-0.9, 0.2, 1.5], (30, 20, 12)),
    "coarser": (np.diag([2.3, 1.0, 1.9]), [-1.7, 0.0, 0.4], (5, 12, 6)),
    "turned and flipped": (np.diag([-0.7, 1.3, 0.4])[[2, 0, 1]], [0.15, 13.2, -2.0], (18, 9, 33)),
    "float noise beside": (np.diag([0.5, 0.5, 0.5]) + 1e-7, [0.0, 0.25, 0.25], (20, 22, 26)),
    "two dimensions": (np.diag([0.6, -0.4]), [0.35, 11.0], (18, 26)),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_axis_after_axis_is_all_at_once(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, offset, size = MAPS[name]
    logits = torch.randn(4, *(11, 12, 13)[: len(size)], generator=torch.Generator().manual_seed(0)).to(dtype)
    expected, outside = sampling._sample_anywhere(logits, matrix, np.array(offset), size)
    assert outside.any()
    assert not outside.all()
    monkeypatch.delattr(F, "grid_sample")
    got = sample(logits, matrix, np.array(offset), size)
    torch.testing.assert_close(got[0], expected, atol=1e-4, rtol=0)
    assert torch.equal(got[1], outside)
    got[0].zero_()
    assert logits.abs().sum() > 0, "the logits stay, whatever is done with the result"


@pytest.mark.parametrize("angle", [0.1, 1e-4, 0.8])
def test_an_oblique_grid_is_sampled_at_every_voxel(angle: float) -> None:
    """Also one that is nearly parallel, and one at 45 degrees where two axes come nearest to the same one."""
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    logits = torch.randn(2, 40, 40, 8)
    size = (400, 20, 4)
    got = sample(logits, turn * 0.1, np.zeros(3), size)
    expected = sampling._sample_anywhere(logits, turn * 0.1, np.zeros(3), size)
    assert torch.equal(got[0], expected[0])


@pytest.mark.parametrize("angle", [0.0, 0.1])
def test_all_is_on_the_device_of_the_logits(angle: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    with pretended_gpu() as gpu:
        values, outside = sample(torch.randn(2, 9, 8, device="cuda"), turn * 0.3, np.array([0.2, -3.0]), (25, 24))
        assert {values.device.type, outside.device.type} == {"cuda"}
    assert gpu.refused == []
    assert gpu.computed["grid_sampler_2d" if angle else "lerp_"]
