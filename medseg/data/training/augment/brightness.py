"""A brighter or darker image."""

from __future__ import annotations

import torch
from pydantic import validate_call

from medseg.core.types import Factors, Fraction
from medseg.data.training.augment.base import ChannelFactor


class Brightness(ChannelFactor):
    """Intensities times a factor, one for each channel.

    Args:
        brightness: Smallest and largest factor on the intensities.
        brightness_probability: Share of the patches whose brightness changes.
    """

    @validate_call
    def __init__(self, brightness: Factors = [0.75, 1.25], brightness_probability: Fraction = 0.15) -> None:
        super().__init__(brightness, brightness_probability)

    def apply(self, image: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        return image * factors
