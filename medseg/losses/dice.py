"""How far a soft mask and the truth overlap: indices between 0 and 1 for each structure, and 1 - Dice of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from medseg.core.types import Overlap
from medseg.losses.target import IGNORED_CLASS

SMOOTH = 1e-5  # keeps the Dice of an absent structure finite, as nnU-Net has it

Index = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Sums over voxels, the last axis of structures: of both, of what is predicted, of what is true; the weight of missed
voxels."""


def soft_dice(both: Tensor, predicted: Tensor, true: Tensor, missed_weight: float) -> Tensor:
    """Of each structure."""
    return (2 * both + SMOOTH) / (predicted + true + SMOOTH)


def tversky(both: Tensor, predicted: Tensor, true: Tensor, missed_weight: float) -> Tensor:
    """Of each structure (Salehi et al., arXiv 1706.05721)."""
    errors = (1 - missed_weight) * (predicted - both) + missed_weight * (true - both)
    return (both + SMOOTH) / (both + errors + SMOOTH)


def generalised_dice(both: Tensor, predicted: Tensor, true: Tensor, missed_weight: float) -> Tensor:
    """Of all structures in one, each weighted by the inverse square of its volume (Sudre et al., arXiv 1707.03237)."""
    weights = torch.where(true > 0, 1 / true.clamp(min=1) ** 2, 0)
    largest = weights.amax(-1, keepdim=True)  # a structure that is not there counts like the smallest that is
    weights = torch.where(true > 0, weights, torch.where(largest > 0, largest, 1))
    weights = weights / weights.amax(-1, keepdim=True)
    return (2 * (weights * both).sum(-1) + SMOOTH) / ((weights * (predicted + true)).sum(-1) + SMOOTH)


OVERLAPS: Mapping[Overlap, Index] = {"dice": soft_dice, "generalised_dice": generalised_dice, "tversky": tversky}


def dice_of_present(probability: Tensor, index: Tensor) -> Tensor:
    """1 - soft Dice of a batch `(B, K, *spatial)`, the mean over the classes in its target `(B, *spatial)`."""
    valid = (index != IGNORED_CLASS)[:, None]
    truth = index[:, None] == torch.arange(probability.shape[1], device=index.device).view(
        1, -1, *[1] * (index.ndim - 1)
    )
    axes = [0, *range(2, probability.ndim)]
    predicted, true = (probability * valid).sum(axes), truth.sum(axes)
    dice = 2 * (probability * truth).sum(axes) / (predicted + true).clamp(min=SMOOTH)
    there = true > 0
    return (1 - dice)[there].mean() if there.any() else probability.sum() * 0
