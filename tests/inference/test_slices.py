from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer

from medseg.inference.slices import SliceInferer
from medseg.inference.sliding import WindowInferer


def volume(channels: int = 2, slices: int = 7) -> torch.Tensor:
    return torch.randn(1, channels, slices, 16, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("at_once", [1, 3, 7, 20])
@pytest.mark.parametrize("context", [1, 3, 5])
def test_each_slice_is_predicted_with_its_neighbours(context: int, at_once: int) -> None:
    """A convolution across slices, with the border repeated, is one over channels that are neighbouring slices."""
    image = volume()
    torch.manual_seed(1)
    across = torch.nn.Conv3d(2, 4, (context, 3, 3), padding=(context // 2, 1, 1), padding_mode="replicate")
    flat = torch.nn.Conv2d(2 * context, 4, 3, padding=1, padding_mode="replicate")
    flat.load_state_dict({"weight": across.weight.flatten(1, 2), "bias": across.bias})
    with torch.inference_mode():
        found = SliceInferer(SimpleInferer(), context, at_once)(image, flat)
        torch.testing.assert_close(found, across(image))


def test_windows_of_slices() -> None:
    image = volume(1)
    network = torch.nn.Conv2d(3, 2, 1)
    windows = WindowInferer(roi_size=(8, 8), overlap=0.5, mode="gaussian")
    with torch.inference_mode():
        found = SliceInferer(windows, 3, 4)(image, network)
        whole = SliceInferer(SimpleInferer(), 3, 4)(image, network)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_an_even_context_has_no_middle() -> None:
    with pytest.raises(ValueError, match="odd"):
        SliceInferer(SimpleInferer(), 2)
