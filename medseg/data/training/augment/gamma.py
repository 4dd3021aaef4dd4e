"""Another shape of an image's histogram."""

from __future__ import annotations

import torch
from pydantic import validate_call

from medseg.core.types import Factors, Fraction
from medseg.data.training.augment.base import ChannelFactor, mean_of, range_of


class Gamma(ChannelFactor):
    """A power of the intensities, one for each channel, at the mean and deviation that they had.

    Args:
        gamma: Smallest and largest exponent of the intensities, as a share of their range.
        gamma_probability: Share of the patches whose histogram changes its shape.
    """

    @validate_call
    def __init__(self, gamma: Factors = [0.7, 1.5], gamma_probability: Fraction = 0.3) -> None:
        super().__init__(gamma, gamma_probability)

    def apply(self, image: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        low, high = range_of(image)
        mean, std = mean_of(image), mean_of((image - mean_of(image)).square_()).sqrt()
        image = ((image - low) / (high - low).clamp_min(1e-8)).pow_(factors)
        # back to the mean and deviation it had: only the histogram's shape changes (nnU-Net's "retain stats")
        image = image - mean_of(image)
        return image * (std / mean_of(image.square()).sqrt().clamp_min(1e-8)) + mean
