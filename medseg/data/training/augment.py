"""Random changes of a training batch, computed on the batch's device.

Every draw derives from `(seed, sample number)`, and no sample knows of another: the batch it is in, the number of
loader workers and a restart change nothing (on a GPU: but for rounding). On a CPU this is some 8 times faster than
`affine_grid` and `grid_sample` (measured on 40 x 56 x 40 voxels), because an affine map's coordinates are sums of three
short vectors, and because blur and low resolution are products with small matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

AUGMENT = 3  # keeps this stream of random numbers apart from those of `patches`


@dataclass(frozen=True)
class _Draw:
    """What happens to one sample; None: nothing of the kind."""

    matrix: np.ndarray | None  # voxel offset from the centre of the output -> of the input
    bends: np.ndarray | None  # (3, dims, dims): amplitude, waves a patch, phase; of the shift of axis i along axis j
    flips: tuple[int, ...]  # spatial axes
    sigma: float | None
    zoom: float | None
    noise_std: float | None
    noise_seed: int
    brightness: np.ndarray | None  # a factor a channel
    contrast: np.ndarray | None
    gamma: np.ndarray | None


class Augment:
    """Augment a batch: `image` `(B, C, *spatial)` float32, `label` `(B, 1, *spatial)`, `sample` `(B,)` whole numbers.

    The arguments are the keys of `augmentation` in the config. Rotation, scaling, bending and flips are one linear
    interpolation (the label's: nearest), with the border repeated outside; then blur and low resolution, noise,
    brightness, contrast, gamma, each channel with factors of its own. Ranges of factors are drawn evenly on a
    logarithmic scale. Bending shifts voxels along each axis by waves along each axis, longer than the patch: an elastic
    deformation whose positions are still sums of one short vector an axis, and so costs nothing more.

    Args:
        bend_voxels: standard deviation of a wave's amplitude.
        spacing_mm: size of the voxels, so that a rotation of anisotropic voxels does not shear; default: cubes.
        patch_size: what is returned, the middle of images that came with a margin; default: as large as they come.
    """

    def __init__(
        self,
        seed: int,
        rotation_degrees: float = 15.0,
        rotation_probability: float = 0.3,
        scale: Sequence[float] = (0.8, 1.25),
        scale_probability: float = 0.3,
        flip_axes: Sequence[int] = (),
        bend_voxels: float = 1.5,
        bend_probability: float = 0.0,
        noise_std: float = 0.1,
        noise_probability: float = 0.15,
        blur_sigma_voxels: Sequence[float] = (0.5, 1.0),
        blur_probability: float = 0.1,
        brightness: Sequence[float] = (0.75, 1.25),
        brightness_probability: float = 0.15,
        contrast: Sequence[float] = (0.75, 1.25),
        contrast_probability: float = 0.15,
        gamma: Sequence[float] = (0.7, 1.5),
        gamma_probability: float = 0.3,
        low_resolution_zoom: Sequence[float] = (0.5, 1.0),
        low_resolution_probability: float = 0.1,
        spacing_mm: Sequence[float] | None = None,
        patch_size: Sequence[int] | None = None,
    ) -> None:
        self.seed = seed
        self.rotation_degrees = rotation_degrees
        self.rotation_probability = rotation_probability
        self.scale = _positive("scale", scale)
        self.scale_probability = scale_probability
        self.flip_axes = tuple(flip_axes)
        self.bend_voxels = bend_voxels
        self.bend_probability = bend_probability
        self.noise_std = noise_std
        self.noise_probability = noise_probability
        self.blur_sigma_voxels = _positive("blur_sigma_voxels", blur_sigma_voxels)
        self.blur_probability = blur_probability
        self.brightness = _positive("brightness", brightness)
        self.brightness_probability = brightness_probability
        self.contrast = _positive("contrast", contrast)
        self.contrast_probability = contrast_probability
        self.gamma = _positive("gamma", gamma)
        self.gamma_probability = gamma_probability
        self.low_resolution_zoom = _positive("low_resolution_zoom", low_resolution_zoom)
        self.low_resolution_probability = low_resolution_probability
        self.spacing_mm = None if spacing_mm is None else tuple(spacing_mm)
        self.patch_size = None if patch_size is None else tuple(patch_size)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        image, label = batch["image"].contiguous(), batch["label"].contiguous()
        samples = torch.as_tensor(batch["sample"]).tolist()
        draws = [self._draw(sample, image.shape[1], image.ndim - 2) for sample in samples]
        # A CPU keeps one sample in its cache; a GPU would spend its time on starting the operations of one.
        group = 1 if image.device.type == "cpu" else len(draws)
        images, labels = [], []
        for start in range(0, len(draws), group):
            part = slice(start, start + group)
            changed, cut = _spatial(image[part], label[part], draws[part], self.patch_size)
            images.append(_intensity(changed, draws[part]))
            labels.append(cut)
        return dict(batch) | {"image": torch.cat(images), "label": torch.cat(labels)}

    def _draw(self, sample: int, channels: int, dims: int) -> _Draw:
        """Everything is drawn, needed or not: so one probability does not change what the others draw."""
        random = np.random.default_rng([self.seed, AUGMENT, sample])
        chance = random.random(9)
        angles = random.uniform(-1, 1, 3) * np.deg2rad(self.rotation_degrees)
        scale = _log_uniform(random, self.scale)
        flips = random.random(3) < 0.5
        sigma, zoom = random.uniform(*self.blur_sigma_voxels), random.uniform(*self.low_resolution_zoom)
        noise_std, noise_seed = random.uniform(0, self.noise_std), int(random.integers(2**62))
        brightness, contrast, gamma = (
            _log_uniform(random, limits, channels) for limits in (self.brightness, self.contrast, self.gamma)
        )
        waves = [random.normal(0, self.bend_voxels, (3, 3)), random.uniform(0.25, 0.75, (3, 3)), random.random((3, 3))]
        bends = np.stack(waves)[:, :dims, :dims] if chance[8] < self.bend_probability else None
        rotates, scales = chance[0] < self.rotation_probability, chance[1] < self.scale_probability
        matrix = None
        if rotates or scales or bends is not None:
            matrix = self._rotation(angles, dims) if rotates else np.eye(dims)
            matrix = matrix / (scale if scales else 1.0)
        return _Draw(
            matrix=matrix,
            bends=bends,
            flips=tuple(axis for axis in self.flip_axes if flips[axis]),
            sigma=sigma if chance[2] < self.blur_probability else None,
            zoom=zoom if chance[3] < self.low_resolution_probability else None,
            noise_std=noise_std if chance[4] < self.noise_probability else None,
            noise_seed=noise_seed,
            brightness=brightness if chance[5] < self.brightness_probability else None,
            contrast=contrast if chance[6] < self.contrast_probability else None,
            gamma=gamma if chance[7] < self.gamma_probability else None,
        )

    def _rotation(self, angles: np.ndarray, dims: int) -> np.ndarray:
        """A turn about each axis (in 2D, in the plane), in voxel coordinates."""
        planes = ((1, 2), (0, 2), (0, 1)) if dims == 3 else ((0, 1),)
        rotation = np.eye(dims)
        for (first, second), angle in zip(planes, angles, strict=False):
            turn = np.eye(dims)
            turn[[first, second], [first, second]] = np.cos(angle)
            turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
            rotation = rotation @ turn
        if self.spacing_mm is None:
            return rotation
        spacing = np.array(self.spacing_mm)
        return rotation * spacing / spacing[:, None]  # voxels -> mm, turn, mm -> voxels


# --- geometry ------------------------------------------------------------------------------------------------------


def margin(patch_size: Sequence[int], rotation_degrees: float, smallest_scale: float, bend_voxels: float) -> list[int]:
    """Voxels around a patch, a side, that its turned, shrunk and bent form reaches into; at most three tenths of it."""
    cosine, sine = np.cos(np.deg2rad(min(rotation_degrees, 90))), np.sin(np.deg2rad(min(rotation_degrees, 90)))
    halves = [size / 2 for size in patch_size]
    margins = []
    for axis, half in enumerate(halves):
        others = [other for index, other in enumerate(halves) if index != axis]
        reach = max(half, *(cosine * half + sine * other for other in others)) / min(smallest_scale, 1.0)
        margins.append(min(int(np.ceil(reach + 2 * bend_voxels - half)), int(np.ceil(0.6 * half))))
    return margins


def _spatial(
    image: torch.Tensor, label: torch.Tensor, draws: Sequence[_Draw], size: tuple[int, ...] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The middle, of that size, of images and labels `(B, C, *spatial)` under rotation, scaling, bending and flips."""
    shape = tuple(image.shape[2:])
    size = shape if size is None else size
    if len(draws) == 1 and draws[0].matrix is None:
        first = _first(shape, size)
        middle = (slice(None), slice(None), *(slice(start, start + m) for start, m in zip(first, size, strict=True)))
        axes = [axis + 2 for axis in draws[0].flips]
        return image[middle].flip(axes), label[middle].flip(axes)
    positions = _positions(draws, shape, size, image.device)
    return _linear(image, positions), _nearest(label, positions)


def _first(shape: Sequence[int], size: Sequence[int]) -> list[int]:
    """Where the middle of that size begins."""
    return [(n - m) // 2 for n, m in zip(shape, size, strict=True)]


def _positions(
    draws: Sequence[_Draw], shape: Sequence[int], size: Sequence[int], device: torch.device
) -> list[torch.Tensor]:
    """For every voxel of the output, its position on each axis of the input, `(B, *size)` each, kept inside."""
    dims = len(shape)
    terms = _on_device(np.stack([_terms(draw, shape, size) for draw in draws]), device).split(list(size) * dims, dim=1)
    positions = []
    for axis, n in enumerate(shape):
        position: torch.Tensor | None = None
        for other in range(dims):
            term = terms[axis * dims + other].view(-1, *(size[other] if k == other else 1 for k in range(dims)))
            position = term if position is None else position + term
        assert position is not None
        positions.append(position.clamp(0, n - 1))
    return positions


def _terms(draw: _Draw, shape: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """For each axis of the input and each of the output, one after the other: what the latter adds to the position."""
    matrix = np.eye(len(shape)) if draw.matrix is None else draw.matrix.copy()
    matrix[:, list(draw.flips)] *= -1  # the output's axis runs backwards
    terms = []
    for axis, (n, m, first) in enumerate(zip(shape, size, _first(shape, size), strict=True)):
        # Without a matrix no voxel is interpolated, also where the margin is an odd number of voxels.
        centre = (n - 1) / 2 if draw.matrix is not None else first + (m - 1) / 2
        for other, length in enumerate(size):
            offset = np.arange(length) - (length - 1) / 2
            term = offset * matrix[axis, other] + (centre if other == 0 else 0)
            if draw.bends is not None:
                amplitude, waves, phase = draw.bends[:, axis, other]
                term = term + amplitude * np.sin(2 * np.pi * (waves * offset / length + phase))
            terms.append(term)
    return np.concatenate(terms)


def _linear(image: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    shape = image.shape[2:]
    corner = _sample_numbers(image)  # becomes the flat index, in all samples of a channel, of the voxel below
    fractions, strides = [], []
    for axis, (position, n) in enumerate(zip(positions, shape, strict=True)):
        below = position.to(torch.int32).clamp_(max=max(n - 2, 0))
        fractions.append((position - below).view(-1))
        strides.append(int(np.prod(shape[axis + 1 :])) if n > 1 else 0)
        corner = below.add_(corner * n)
    corner = corner.view(-1)

    def between(voxels: torch.Tensor, axis: int, shift: int) -> torch.Tensor:
        if axis == len(shape):
            return voxels.index_select(0, corner + shift)
        low = between(voxels, axis + 1, shift)
        return low.lerp_(between(voxels, axis + 1, shift + strides[axis]), fractions[axis])

    channels = [between(channel.reshape(-1), 0, 0).view(positions[0].shape) for channel in image.unbind(1)]
    return torch.stack(channels, dim=1)


def _nearest(label: torch.Tensor, positions: Sequence[torch.Tensor]) -> torch.Tensor:
    index = _sample_numbers(label)
    for position, n in zip(positions, label.shape[2:], strict=True):
        index = (position + 0.5).to(torch.int32).add_(index * n)
    flat = index.view(-1)
    channels = [channel.reshape(-1).index_select(0, flat).view(index.shape) for channel in label.unbind(1)]
    return torch.stack(channels, dim=1)


def _sample_numbers(image: torch.Tensor) -> torch.Tensor:
    """0, 1, ... of the samples, `(B, 1, ...)` with a 1 for each spatial axis."""
    numbers = torch.arange(len(image), dtype=torch.int32, device=image.device)
    return numbers.view(-1, *[1] * (image.ndim - 2))


# --- intensity -----------------------------------------------------------------------------------------------------


def _intensity(image: torch.Tensor, draws: Sequence[_Draw]) -> torch.Tensor:
    """Images `(B, C, *spatial)` after blur, low resolution, noise, brightness, contrast and gamma, each its own."""
    image = _some(image, draws, lambda draw: draw.sigma is not None or draw.zoom is not None, _smoothed)
    image = _some(image, draws, lambda draw: draw.noise_std is not None, _noisy)
    image = _some(image, draws, lambda draw: draw.brightness is not None, _brighter)
    image = _some(image, draws, lambda draw: draw.contrast is not None, _contrasted)
    return _some(image, draws, lambda draw: draw.gamma is not None, _gamma_corrected)


def _some(
    image: torch.Tensor,
    draws: Sequence[_Draw],
    wants: Callable[[_Draw], bool],
    change: Callable[[torch.Tensor, Sequence[_Draw]], torch.Tensor],
) -> torch.Tensor:
    """The images, those changed whose draw wants it, all of them at once."""
    chosen = [number for number, draw in enumerate(draws) if wants(draw)]
    if not chosen:
        return image
    if len(chosen) == len(draws):
        return change(image, draws)
    samples = list(image.unbind())
    changed = change(torch.stack([samples[n] for n in chosen]), [draws[n] for n in chosen])
    for number, sample in zip(chosen, changed, strict=True):
        samples[number] = sample
    return torch.stack(samples)


def _smoothed(image: torch.Tensor, draws: Sequence[_Draw]) -> torch.Tensor:
    for axis, n in enumerate(image.shape[2:], start=2):
        weights = _on_device(np.stack([_smoothing(n, draw) for draw in draws]), image.device)  # (B, n, n)
        moved = image.movedim(axis, -1)
        image = (moved.flatten(1, -2) @ weights.mT).view(moved.shape).movedim(-1, axis)
    return image.contiguous()


def _noisy(image: torch.Tensor, draws: Sequence[_Draw]) -> torch.Tensor:
    noisy = []
    for sample, draw in zip(image, draws, strict=True):
        generator = torch.Generator(image.device).manual_seed(draw.noise_seed)
        noise = torch.randn(sample.shape, generator=generator, device=image.device)
        noisy.append(sample.add(noise, alpha=draw.noise_std or 0.0))
    return torch.stack(noisy)


def _brighter(image: torch.Tensor, draws: Sequence[_Draw]) -> torch.Tensor:
    return image * _factors("brightness", draws, image)


def _contrasted(image: torch.Tensor, draws: Sequence[_Draw]) -> torch.Tensor:
    low, high = _range(image)
    return torch.lerp(_mean(image), image, _factors("contrast", draws, image)).clamp_(low, high)


def _gamma_corrected(image: torch.Tensor, draws: Sequence[_Draw]) -> torch.Tensor:
    low, high = _range(image)
    mean, std = _mean(image), _mean((image - _mean(image)).square_()).sqrt()
    image = ((image - low) / (high - low).clamp_min(1e-8)).pow_(_factors("gamma", draws, image))
    # back to the mean and deviation it had: only the histogram's shape changes (nnU-Net's "retain stats")
    image = image - _mean(image)
    return image * (std / _mean(image.square()).sqrt().clamp_min(1e-8)) + mean


def _mean(image: torch.Tensor) -> torch.Tensor:
    return image.mean(dim=tuple(range(2, image.ndim)), keepdim=True)


def _range(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = image.flatten(2).aminmax(dim=2)
    shape = [*image.shape[:2], *[1] * (image.ndim - 2)]
    return low.view(shape), high.view(shape)


def _factors(name: str, draws: Sequence[_Draw], image: torch.Tensor) -> torch.Tensor:
    """What was drawn by that name for each sample and channel, `(B, C, 1, ...)`."""
    drawn = np.stack([getattr(draw, name) for draw in draws])
    return _on_device(drawn, image.device).view(*image.shape[:2], *[1] * (image.ndim - 2))


def _on_device(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """As float32; from pinned memory, so that nobody waits until a GPU has done what it was told before."""
    tensor = torch.from_numpy(values.astype(np.float32))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _smoothing(n: int, draw: _Draw) -> np.ndarray:
    """`(n, n)`: blur, then low resolution, along an axis."""
    weights = np.eye(n) if draw.sigma is None else _blur_matrix(n, draw.sigma)
    if draw.zoom is not None:
        coarse = max(1, round(n * draw.zoom))
        weights = _resize_matrix(n, coarse) @ _resize_matrix(coarse, n) @ weights
    return weights


def _blur_matrix(n: int, sigma: float) -> np.ndarray:
    """`(n, n)`: a Gaussian of `sigma` voxels along an axis, with its end repeated outside."""
    radius = int(np.ceil(3 * sigma))
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (steps / sigma) ** 2)
    matrix = np.zeros((n, n))
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        np.add.at(matrix, (np.arange(n), np.clip(np.arange(n) + step, 0, n - 1)), weight)
    return matrix


def _resize_matrix(size: int, n: int) -> np.ndarray:
    """`(size, n)`: linear interpolation of n voxels to `size` over the same extent."""
    position = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    below = np.minimum(position.astype(int), max(n - 2, 0))
    matrix = np.zeros((size, n))
    rows = np.arange(size)
    np.add.at(matrix, (rows, below), 1 - (position - below))
    np.add.at(matrix, (rows, np.minimum(below + 1, n - 1)), position - below)
    return matrix


# --- draws ---------------------------------------------------------------------------------------------------------


def _log_uniform(random: np.random.Generator, limits: Sequence[float], size: int | None = None) -> Any:
    return np.exp(random.uniform(np.log(limits[0]), np.log(limits[1]), size))


def _positive(name: str, limits: Sequence[float]) -> tuple[float, float]:
    low, high = limits
    if not 0 < low <= high:
        raise ValueError(f"{name} {list(limits)}: expected two numbers above 0, the smaller one first")
    return float(low), float(high)
