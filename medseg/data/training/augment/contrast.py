"""More or less contrast."""

from __future__ import annotations

import torch
from pydantic import validate_call

from medseg.core.types import Factors, Fraction
from medseg.data.training.augment.base import ChannelFactor, mean_of, range_of


class Contrast(ChannelFactor):
    """Distances from the mean times a factor, one for each channel, within the image's own range.

    Args:
        contrast: Smallest and largest factor on the distance from the mean, within the image's own range.
        contrast_probability: Share of the patches whose contrast changes.
    """

    @validate_call
    def __init__(self, contrast: Factors = [0.75, 1.25], contrast_probability: Fraction = 0.15) -> None:
        super().__init__(contrast, contrast_probability)

    def apply(self, image: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        low, high = range_of(image)
        return torch.lerp(mean_of(image), image, factors).clamp_(low, high)
