"""Linear filters along one axis after the other, as products with small matrices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from medseg.data.training.augment.base import Intensity, on_device


class AxisFilter(Intensity):
    """A filter of a strength drawn evenly from a range, the same along every axis and of every channel."""

    def __init__(self, strengths: Sequence[float], probability: float) -> None:
        super().__init__(probability)
        self.strengths = strengths

    def draw(self, random: np.random.Generator, channels: int) -> float:
        low, high = self.strengths
        return random.uniform(low, high)

    def change(self, image: torch.Tensor, draws: Sequence[float]) -> torch.Tensor:
        for axis, n in enumerate(image.shape[2:], start=2):
            weights = on_device(np.stack([self.matrix(n, strength) for strength in draws]), image.device)  # (B, n, n)
            moved = image.movedim(axis, -1)
            image = (moved.flatten(1, -2) @ weights.mT).view(moved.shape).movedim(-1, axis)
        return image.contiguous()

    @abstractmethod
    def matrix(self, n: int, strength: float) -> np.ndarray:
        """`(n, n)`: n voxels along an axis -> the same after the filter."""
