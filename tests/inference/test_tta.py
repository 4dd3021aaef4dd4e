"""Mirroring: the mean over flips, flipped back."""

from __future__ import annotations

import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer

from medseg.inference.tta import MirroredInferer


def test_mean_over_all_flips() -> None:
    image = torch.randn(1, 2, 5, 6, 7)
    weight = torch.randn(5, 6, 7)

    def network(x: torch.Tensor) -> torch.Tensor:
        return x * weight

    logits = MirroredInferer(SimpleInferer(), axes=[0, 2])(image, network)
    mean = (weight + weight.flip(0) + weight.flip(2) + weight.flip(0, 2)) / 4
    torch.testing.assert_close(logits, image * mean)


def test_no_axes_is_one_pass_in_float32() -> None:
    calls = []

    def network(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return x.bfloat16()

    image = torch.randn(1, 1, 4, 4)
    logits = MirroredInferer(SimpleInferer(), axes=[])(image, network)
    assert len(calls) == 1
    assert logits.dtype == torch.float32


def test_around_a_sliding_window() -> None:
    """A network that looks at single voxels gives the same through windows and mirrors."""
    image = torch.randn(1, 1, 11, 13)
    inferer = MirroredInferer(SlidingWindowInferer((6, 6), overlap=0.5, mode="gaussian"), axes=[0, 1])
    torch.testing.assert_close(inferer(image, lambda x: 2 * x + 1), 2 * image + 1, atol=1e-5, rtol=1e-5)
