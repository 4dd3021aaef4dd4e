"""Whole images: coarse maps stay in register with the image, whatever its size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.inference.whole import WholeImageInferer


def coarse_and_back(x: Tensor) -> Tensor:
    """What the coarsest path of a network does to the places of things: strides of 32, then up to the image's size."""
    return F.interpolate(F.avg_pool2d(x, 32, ceil_mode=True, count_include_pad=False), x.shape[2:], mode="bilinear")


@pytest.mark.parametrize("size", [(360, 480), (333, 500), (64, 96), (7, 33)])
def test_a_ramp_through_a_coarse_map_stays_in_its_place(size):
    rows = torch.arange(size[0]).float()[None, None, :, None].expand(1, 1, *size)
    result = WholeImageInferer(32)(rows, coarse_and_back)
    assert result.shape == rows.shape
    inside = slice(16, max(size[0] // 32 * 32 - 16, 16))  # beyond the middles of the outermost cells there is no slope
    assert torch.allclose(result[:, :, inside], rows[:, :, inside], atol=0.01)


def test_without_it_the_ramp_is_out_of_place():
    rows = torch.arange(360).float()[None, None, :, None].expand(1, 1, 360, 480)
    assert (coarse_and_back(rows) - rows)[:, :, 300:330].abs().max() > 10


def test_an_image_that_fits_is_handed_on_untouched():
    image = torch.rand(1, 3, 64, 32)
    seen = []
    WholeImageInferer(32)(image, lambda x: seen.append(x) or x)
    assert seen[0] is image


def test_volumes_too():
    image = torch.rand(1, 2, 5, 17, 32)
    assert torch.equal(WholeImageInferer(8)(image, lambda x: x), image)


def test_a_multiple_an_axis():
    seen = []
    result = WholeImageInferer([16, 16, 1])(torch.rand(1, 1, 30, 17, 7), lambda x: seen.append(x) or x)
    assert seen[0].shape[2:] == (32, 32, 7)
    assert result.shape[2:] == (30, 17, 7)


def test_a_multiple_below_one_is_refused():
    with pytest.raises(ValueError, match="multiple 0"):
        WholeImageInferer(0)
