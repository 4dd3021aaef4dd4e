"""Noise on an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import validate_call

from medseg.core.types import Deviation, Fraction
from medseg.data.training.augment.base import Intensity


class Noise(Intensity):
    """White Gaussian noise; a GPU draws other values than a CPU, of the same deviation.

    Args:
        noise_std: Largest standard deviation of the noise, in units of the normalised image.
        noise_probability: Share of the patches that get noise.
    """

    @validate_call
    def __init__(self, noise_std: Deviation = 0.1, noise_probability: Fraction = 0.15) -> None:
        super().__init__(noise_probability)
        self.std = noise_std

    def draw(self, random: np.random.Generator, channels: int) -> tuple[float, int]:
        """The deviation, and the seed of the noise."""
        return random.uniform(0, self.std), int(random.integers(2**62))

    def change(self, image: torch.Tensor, draws: Sequence[tuple[float, int]]) -> torch.Tensor:
        noisy = []
        for sample, (std, seed) in zip(image, draws, strict=True):
            generator = torch.Generator(image.device).manual_seed(seed)
            noise = torch.randn(sample.shape, generator=generator, device=image.device)
            noisy.append(sample.add(noise, alpha=std))
        return torch.stack(noisy)
