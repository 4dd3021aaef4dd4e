"""Inferers around inferers: scaled colours, several scales."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer

from medseg.inference.colour import COLOUR_SCALES, ColourInferer
from medseg.inference.scales import ScaledInferer


def test_bytes_become_what_imagenets_networks_expect() -> None:
    image = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    mean, std = COLOUR_SCALES["imagenet"]
    got = ColourInferer(SimpleInferer(), mean, std)(image, lambda x: x)
    middle, spread = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = (image / 255 - middle) / spread  # as torchvision's recipes write it
    torch.testing.assert_close(got, expected)
    with pytest.raises(ValueError, match="4 channels"):
        ColourInferer(SimpleInferer(), mean, std)(torch.zeros(1, 4, 2, 2), lambda x: x)


@pytest.mark.parametrize("size", [(10, 14), (6, 8, 10)])
def test_the_mean_over_scales(size: tuple[int, ...]) -> None:
    image = torch.rand(1, 2, *size)
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[2:]))
        return x + len(seen)

    got = ScaledInferer(SimpleInferer(), [0.5, 1.0, 1.5])(image, network)
    assert seen == [tuple(n // 2 for n in size), size, tuple(round(n * 1.5) for n in size)]
    assert got.shape == image.shape
    seen.clear()
    constant = ScaledInferer(SimpleInferer(), [0.5, 1.0, 1.5])(torch.zeros(1, 2, *size), network)
    torch.testing.assert_close(constant, torch.full_like(constant, 2.0))  # of 1, 2 and 3
    torch.testing.assert_close(ScaledInferer(SimpleInferer(), [1.0])(image, lambda x: 3 * x), 3 * image)
