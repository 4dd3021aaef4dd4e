"""Dense CRF: sharpen a segmentation along the edges of its image (Krähenbühl & Koltun, NeurIPS 2011).

Every pair of voxels is connected; two Gaussian kernels, one of the distance and one of the distance and the difference
in the image (bilateral), say how much the two should have the same class. Mean-field inference, in two and three
dimensions, for an image of any number of channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from medseg.core.errors import ConfigError, Problem, did_you_mean
from medseg.inference.permutohedral import PermutohedralLattice


@dataclass(frozen=True)
class CRFParameters:
    """Strength and reach of the two kernels; a weight of 0 leaves a kernel out.

    Args:
        iterations: mean-field updates.
        gaussian_weight: strength of the kernel that knows the distance only (`pos_w`, `compat`).
        gaussian_std: its reach, in voxels or in the unit of `spacing`; one number, or one for each axis.
        bilateral_weight: strength of the kernel that also knows the image (`bi_w`, `compat`).
        bilateral_std: its reach in space, as `gaussian_std`.
        image_std: its reach in the image's own units, for all channels or one for each. The published values are
            for RGB from 0 to 255.
        minimum_probability: smaller probabilities are raised to it first, so that a certain network can be corrected.
    """

    iterations: int = 5
    gaussian_weight: float = 3.0
    gaussian_std: float | tuple[float, ...] = 3.0
    bilateral_weight: float = 10.0
    bilateral_std: float | tuple[float, ...] = 80.0
    image_std: float | tuple[float, ...] = 13.0
    minimum_probability: float = 1e-5


# DeepLab v1: Chen et al. 2015 and the parameters released with the models. DeepLab v2: Chen et al. 2018.
PUBLISHED: Mapping[str, CRFParameters] = MappingProxyType(
    {
        "pydensecrf": CRFParameters(),  # the example of its README
        "deeplabv1": CRFParameters(10, 3, 3, 5, 50, 10),
        "deeplabv1_msc": CRFParameters(10, 3, 3, 3, 95, 3),
        "deeplabv1_largefov": CRFParameters(10, 3, 3, 4, 121, 5),
        "deeplabv1_msc_largefov": CRFParameters(10, 3, 3, 4, 83, 5),
        "deeplabv1_coco": CRFParameters(10, 3, 3, 5, 67, 3),
        "deeplabv1_coco_largefov": CRFParameters(10, 3, 3, 5, 69, 5),
        "deeplabv1_msc_coco_largefov": CRFParameters(10, 3, 3, 4, 59, 5),
        "deeplabv2": CRFParameters(10, 3, 1, 4, 67, 3),
    }
)


def published_parameters(name: str) -> CRFParameters:
    """The published parameter set `name`, for RGB images from 0 to 255.

    Raises:
        ConfigError: no such set.
    """
    if name not in PUBLISHED:
        raise ConfigError(f"no CRF parameters called {name!r}", did_you_mean(name, PUBLISHED))
    return PUBLISHED[name]


@torch.no_grad()
def dense_crf(
    prediction: Tensor,
    image: Tensor,
    parameters: CRFParameters = PUBLISHED["pydensecrf"],
    *,
    regions: bool = False,
    probabilities: bool = False,
    spacing: Sequence[float] | None = None,
) -> Tensor:
    """Logits (or probabilities) `(K, *spatial)` and their image `(C, *spatial)` -> probabilities `(K, *spatial)`.

    Gives what `pydensecrf` gives with its defaults (Potts compatibility, symmetric normalisation), up to rounding.
    Time and memory are linear in the number of voxels: in 3D with four channels about 700 bytes a voxel.

    Args:
        prediction: logits of exclusive classes (softmax) or of regions (sigmoid); float, on any device.
        image: in the units of `parameters.image_std`, on the same grid.
        regions: the channels may overlap; each is a two-class field (region or not) of its own.
        probabilities: `prediction` holds probabilities instead of logits.
        spacing: the voxel's size along each axis, in the unit of the standard deviations in space; default: 1 voxel.

    Returns:
        float32; for exclusive classes they add up to 1.

    Raises:
        ConfigError: as many standard deviations as neither 1 nor the axes or channels, or one that is not positive.
        ValueError: image and prediction have different grids.
    """
    spatial = tuple(prediction.shape[1:])
    if tuple(image.shape[1:]) != spatial:
        raise ValueError(f"image {tuple(image.shape)} and prediction {tuple(prediction.shape)} have different grids")
    # (N, K), a voxel's values beside each other; plain tensors, as MetaTensors cost time in every operation
    values = prediction.as_subclass(Tensor).float().flatten(1).T.contiguous()
    picture = image.as_subclass(Tensor).to(values.device).float().flatten(1).T.contiguous()
    kernels = _kernels(picture, _positions(spatial, spacing, values.device), parameters)
    solve = _regions if regions else _classes
    result = solve(values, kernels, parameters, probabilities)
    return result.T.reshape(-1, *spatial).contiguous()


def _classes(values: Tensor, kernels: list[PermutohedralLattice], parameters: CRFParameters, linear: bool) -> Tensor:
    """Mean field of exclusive classes: `(N, K)` -> probabilities `(N, K)`."""
    current = values if linear else values.softmax(dim=1)
    unary = current.clamp(min=parameters.minimum_probability).log_()
    current = unary.softmax(dim=1)
    for _ in range(parameters.iterations):
        energy = unary.clone()
        for kernel in kernels:
            energy += kernel(current)
        current = energy.softmax(dim=1)
    return current


def _regions(values: Tensor, kernels: list[PermutohedralLattice], parameters: CRFParameters, linear: bool) -> Tensor:
    """Mean field of a two-class problem for each column; filtering is linear, so that of p gives that of 1 - p."""
    current = values if linear else values.sigmoid()
    smallest = parameters.minimum_probability
    unary = current.clamp(min=smallest).log_() - (1 - current).clamp_(min=smallest).log_()  # log odds
    current = unary.sigmoid()
    for kernel in kernels:
        unary -= kernel(torch.ones_like(values[:, :1]))
    for _ in range(parameters.iterations):
        energy = unary.clone()
        for kernel in kernels:
            energy.add_(kernel(current), alpha=2)
        current = energy.sigmoid()
    return current


def _kernels(picture: Tensor, positions: Tensor, parameters: CRFParameters) -> list[PermutohedralLattice]:
    """The kernels of positive weight, each symmetrically normalised and multiplied by its weight."""
    dims, channels = positions.shape[1], picture.shape[1]
    kernels = []
    for weight, name in ((parameters.gaussian_weight, "gaussian_std"), (parameters.bilateral_weight, "bilateral_std")):
        if weight < 0:
            raise ConfigError(Problem(name.replace("std", "weight"), f"{weight} is negative"))
        if weight == 0:
            continue
        # The last axis (x) first, as pydensecrf: the lattice's directions follow the order of the features.
        features = (positions / _std(parameters, name, dims).to(positions)).flip(1)
        if name == "bilateral_std":
            features = torch.cat([features, picture / _std(parameters, "image_std", channels).to(picture)], dim=1)
        kernel = PermutohedralLattice(features)
        norm = kernel(torch.ones_like(positions[:, :1]))[:, 0]
        kernel.rescale((weight / (norm + 1e-20)).sqrt_())
        kernels.append(kernel)
    return kernels


def _std(parameters: CRFParameters, name: str, count: int) -> Tensor:
    value = getattr(parameters, name)
    values = (value,) * count if isinstance(value, int | float) else tuple(value)
    if len(values) != count or min(values) <= 0:
        raise ConfigError(Problem(name, f"got {value}, expected one positive number or {count}"))
    return torch.tensor(values, dtype=torch.float32)


def _positions(spatial: tuple[int, ...], spacing: Sequence[float] | None, device: torch.device) -> Tensor:
    """`(N, D)`: where each voxel is."""
    steps = spacing if spacing is not None else (1.0,) * len(spatial)
    axes = [torch.arange(size, device=device) * float(step) for size, step in zip(spatial, steps, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, len(spatial)).float()
