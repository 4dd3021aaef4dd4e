"""What a transform is: a random change of where a sample's voxels lie, or of what they hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch


class Transform:
    """A change that happens to a sample with a probability; what happens is drawn from a stream of its own.

    Its arguments are options of the config, checked by pydantic's `validate_call` against the types of their
    annotations (`core/types.py`): whoever builds one, in Python or in a bundle's YAML, meets the same bounds.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability


class Warp(NamedTuple):
    """Where the voxels of a sample are taken from, as offsets in voxels from the centre.

    Args:
        matrix: `(dims, dims)`, offset in the output -> in the input; None: as they lie, and nothing is interpolated.
        waves: `(3, dims, dims)` each: amplitude, waves a patch, phase; of the shift of axis i along axis j.
        flips: spatial axes of the output that run backwards.
        shift: `(dims,)`, voxels of the input, added to every position.
    """

    matrix: np.ndarray | None = None
    waves: tuple[np.ndarray, ...] = ()
    flips: tuple[int, ...] = ()
    shift: np.ndarray | None = None


class Spatial(Transform, ABC):
    """A change of where voxels are taken from; all of a sample's are one interpolation."""

    @abstractmethod
    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        """What happens to a sample whose voxels have that size along each spatial axis."""

    def reach(self, halves: Sequence[float]) -> list[float]:
        """How far from the centre, at most, a box is filled from along each axis, if it reaches `halves` itself."""
        return list(halves)


class AxisFactors(Spatial):
    """Showing what a patch shows larger or smaller, by a factor for each axis."""

    def __init__(self, factors: Sequence[float], probability: float) -> None:
        super().__init__(probability)
        self.factors = factors

    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        return Warp(matrix=np.diag(1 / self.each(random, len(spacing))))

    @abstractmethod
    def each(self, random: np.random.Generator, dims: int) -> np.ndarray:
        """The factor along each axis."""

    def reach(self, halves: Sequence[float]) -> list[float]:
        return [half / min(self.factors[0], 1.0) for half in halves]


class Intensity(Transform, ABC):
    """A change of the values of voxels.

    Attributes:
        whole_channels: what happens is drawn for each channel, so neighbouring slices of one are changed alike, as if
            they were one more spatial axis.
    """

    whole_channels: ClassVar[bool] = False

    @abstractmethod
    def draw(self, random: np.random.Generator, channels: int) -> Any:
        """What happens to a sample, as `change` wants it."""

    @abstractmethod
    def change(self, image: torch.Tensor, draws: Sequence[Any]) -> torch.Tensor:
        """Images `(B, C, *spatial)` after what was drawn for each of them; the given ones are left alone."""


class ChannelFactor(Intensity):
    """A change by a factor for each channel, drawn evenly on a logarithmic scale."""

    whole_channels = True

    def __init__(self, factors: Sequence[float], probability: float) -> None:
        super().__init__(probability)
        self.factors = factors

    def draw(self, random: np.random.Generator, channels: int) -> np.ndarray:
        return log_uniform(random, self.factors, channels)

    def change(self, image: torch.Tensor, draws: Sequence[np.ndarray]) -> torch.Tensor:
        factors = on_device(np.stack(draws), image.device)
        return self.apply(image, factors.view(*image.shape[:2], *[1] * (image.ndim - 2)))

    @abstractmethod
    def apply(self, image: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Images `(B, C, *spatial)` changed by factors `(B, C, 1, ...)`."""


def log_uniform(random: np.random.Generator, limits: Sequence[float], size: int | None = None) -> Any:
    """Factors, as often below as above the (geometric) middle of the limits."""
    return np.exp(random.uniform(np.log(limits[0]), np.log(limits[1]), size))


def on_device(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """As float32; from pinned memory, so that nobody waits until a GPU has done what it was told before."""
    tensor = torch.from_numpy(values.astype(np.float32))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def mean_of(image: torch.Tensor) -> torch.Tensor:
    """Of each sample and channel, `(B, C, 1, ...)`."""
    return image.mean(dim=tuple(range(2, image.ndim)), keepdim=True)


def range_of(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Smallest and largest value of each sample and channel, `(B, C, 1, ...)`."""
    low, high = image.flatten(2).aminmax(dim=2)
    shape = [*image.shape[:2], *[1] * (image.ndim - 2)]
    return low.view(shape), high.view(shape)
