"""The fast guided filter against the paper's formulas, window by window."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.inference.matte import box_mean, guided_matte, ramp


def plain_guided_filter(matte: np.ndarray, grey: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Equations 4 to 6 of He and Sun at one size: a and b of every window, then their mean over windows."""
    rows, columns = matte.shape

    def window(i: int, j: int) -> tuple[slice, slice]:
        return slice(max(i - radius, 0), i + radius + 1), slice(max(j - radius, 0), j + radius + 1)

    a, b = np.zeros_like(matte), np.zeros_like(matte)
    for i in range(rows):
        for j in range(columns):
            p, g = matte[window(i, j)], grey[window(i, j)]
            a[i, j] = ((g * p).mean() - g.mean() * p.mean()) / (g.var() + epsilon)
            b[i, j] = p.mean() - a[i, j] * g.mean()
    result = np.zeros_like(matte)
    for i in range(rows):
        for j in range(columns):
            result[i, j] = a[window(i, j)].mean() * grey[i, j] + b[window(i, j)].mean()
    return result.clip(0, 1)


def maps(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array)[None, None] for array in arrays]


def test_it_is_the_guided_filter_at_one_size() -> None:
    random = np.random.default_rng(0)
    grey, matte = random.random((13, 17)), (random.random((13, 17)) > 0.5).astype(float)
    p, g = maps(matte, grey)
    ours = guided_matte(p, g, g, radius=2, smoothness=1e-2)[0, 0].numpy()
    np.testing.assert_allclose(ours, plain_guided_filter(matte, grey, 2, 1e-2), atol=1e-10)
    assert 0 < ours.min() + ours.max() < 2


def test_a_window_larger_than_the_picture_takes_what_is_there() -> None:
    values = torch.rand(1, 2, 3, 5, dtype=torch.float64)
    expected = values.mean((2, 3), keepdim=True).expand_as(values)
    torch.testing.assert_close(box_mean(values, 9), expected)


def test_a_coarse_border_moves_to_the_edge_of_the_picture() -> None:
    grey = np.full((64, 64), 0.2)
    grey[:, 37:] = 0.8  # between the pixels of the small size, whose border is at 36
    small = grey.reshape(16, 4, 16, 4).mean((1, 3))
    matte = np.zeros((16, 16))
    matte[:, 9:] = 1
    p, s, g = maps(matte, small, grey)
    fine = guided_matte(p, s, g, radius=2)[0, 0]
    assert ((fine > 0.5).numpy() == (grey > 0.5)).all()
    plain = torch.nn.functional.interpolate(p, (64, 64), mode="bilinear")[0, 0]
    assert ((plain > 0.5).numpy() != (grey > 0.5)).any(), "what enlarging alone would give"


def test_what_is_sure_stays_exactly_so() -> None:
    probability = torch.tensor([0.0, 0.05, 0.1, 0.5, 0.9, 0.97, 1.0])
    assert ramp(probability).tolist() == pytest.approx([0, 0, 0, 0.5, 1, 1, 1])
    assert ramp(probability)[[0, 1, 5, 6]].tolist() == [0, 0, 1, 1]
    grey = torch.rand(1, 1, 40, 40)
    for sure in (0.0, 1.0):
        fine = guided_matte(torch.full((1, 1, 10, 10), sure), grey[..., ::4, ::4], grey, radius=2)
        torch.testing.assert_close(fine, torch.full_like(grey, sure), atol=1e-5, rtol=0)
