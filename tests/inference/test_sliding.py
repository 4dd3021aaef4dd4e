"""The sliding window gives what MONAI's gives, and shows the network one window of each constant value."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from medseg.inference.sliding import WindowInferer
from medseg.networks import build_network

WINDOW = {"roi_size": (16, 16, 16), "overlap": 0.5, "mode": "gaussian"}


def body(air: tuple[float, float] = (-1.0, 2.0)) -> Tensor:
    """Noise in the middle of air: `(1, 2, 48, 48, 48)`."""
    torch.manual_seed(0)
    image = torch.tensor(air).view(1, 2, 1, 1, 1).expand(1, 2, 48, 48, 48).clone()
    image[..., 20:30, 18:31, 20:33] = torch.randn(1, 2, 10, 13, 13)
    return image


class Watched:
    """A network that counts the windows it sees."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = build_network("unet", spatial_dims=3, in_channels=2, out_channels=3, widths=[4, 8]).eval()
        self.windows = 0

    @torch.no_grad()
    def __call__(self, windows: Tensor) -> Tensor:
        self.windows += len(windows)
        return self.network(windows)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_logits_are_monais_for_fewer_windows(batch: int) -> None:
    theirs, ours = Watched(), Watched()
    expected = SlidingWindowInferer(**WINDOW, sw_batch_size=batch)(body(), theirs)
    found = WindowInferer(**WINDOW, sw_batch_size=batch)(body(), ours)
    assert torch.allclose(found, expected, atol=1e-5)
    assert theirs.windows == 125
    assert ours.windows == 3 * 3 * 4 + 1, "those that touch the body, and one of air"


def test_every_value_is_another_window() -> None:
    image = torch.zeros(1, 1, 8, 32)
    image[..., 16:] = 1
    seen: list[Tensor] = []

    def network(windows: Tensor) -> Tensor:
        seen.extend(windows)
        return windows * 10

    result = WindowInferer((8, 8), sw_batch_size=4, overlap=0.0)(image, network)
    assert torch.equal(result, image * 10)
    assert [window.unique().tolist() for window in seen] == [[0.0], [1.0]]


def test_a_constant_that_is_no_number_hides_nothing() -> None:
    image = torch.full((1, 1, 16, 16), torch.nan)
    seen: list[Tensor] = []
    WindowInferer((8, 8), overlap=0.0)(image, lambda windows: seen.extend(windows) or windows)
    assert len(seen) == 4


def test_one_channel_that_varies_is_enough() -> None:
    watched = Watched()
    image = body((0.0, 0.0))
    image[:, 1] = torch.randn(48, 48, 48)
    WindowInferer(**WINDOW, sw_batch_size=4)(image, watched)
    assert watched.windows == 125
