"""Dice + cross-entropy, over exclusive classes or overlapping regions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.core.types import Fraction, Overlap, Share, Weight, chosen
from medseg.losses.dice import OVERLAPS
from medseg.losses.focal import focused
from medseg.losses.target import IGNORED_CLASS, IGNORED_REGION


class DiceCrossEntropy(nn.Module):
    """`dice_weight * (1 - soft Dice) + cross_entropy_weight * cross-entropy`, in float32 whatever the autocast.

    Classes (softmax): target int64 `(B, 1, *spatial)` of channel numbers, -100 where ignored; the background (channel
    0) does not count in the Dice. Regions (sigmoid): target float `(B, R, *spatial)` of 0 and 1, -1 where ignored.
    An ignored voxel changes nothing: neither a sum nor a mean nor a gradient.

    Args:
        dice_weight: of 1 - the overlap, the mean over structures.
        cross_entropy_weight: of the mean cross-entropy.
        batch_dice: sum over the batch before the ratio (steadier for small structures), not a Dice for each sample.
        regions: sigmoid for each channel in the place of one softmax.
        overlap: what dice_weight is of. "dice"; "generalised_dice" (Sudre et al., arXiv 1707.03237: one ratio, each
            structure weighted by the inverse square of its volume, so that small ones count as much as large ones); or
            "tversky" (Salehi et al., arXiv 1706.05721), which weighs missed and invented voxels apart.
        missed_weight: of the missed voxels in the Tversky index; the invented ones have the rest of 1. 0.5 is the Dice.
        smooth: voxels that are taken to be found, as a share of all that are summed over. Then the empty mask of an
            image without the structure is perfect, and what is invented costs by its size: with `batch_dice: false` it
            teaches a network to leave the healthy alone. Not for generalised Dice.
        focal_weight: of the focal loss (Lin et al., arXiv 1708.02002) with the exponent `focal_gamma`.
        focal_gamma: the larger, the less the voxels count that are nearly right.
        label_smoothing: share of every voxel's truth that the cross-entropy spreads evenly over all classes, of a
            region over 0 and 1 (Szegedy et al., arXiv 1512.00567), so that being surer than that costs. The Dice and
            the focal loss keep the truth as it is.

    Raises:
        ValueError: an unknown overlap, or one that `smooth` is not for.
    """

    def __init__(
        self,
        dice_weight: Weight = 1.0,
        cross_entropy_weight: Weight = 1.0,
        batch_dice: bool = True,
        regions: bool = False,
        overlap: Overlap = "dice",
        missed_weight: Fraction = 0.7,
        smooth: Share = 0.0,
        focal_weight: Weight = 0.0,
        focal_gamma: Weight = 2.0,
        label_smoothing: Share = 0.0,
    ) -> None:
        super().__init__()
        self.overlap = OVERLAPS[chosen(overlap, Overlap, "overlap")]
        self.missed_weight = missed_weight
        if smooth and overlap == "generalised_dice":
            raise ValueError("smooth is not for generalised_dice, whose weights are of the true volumes")
        self.smooth = smooth
        self.focal_weight = focal_weight
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.dice_weight = dice_weight
        self.cross_entropy_weight = cross_entropy_weight
        self.batch_dice = batch_dice
        self.regions = regions

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            return self._regions(logits, target) if self.regions else self._classes(logits, target)

    def _classes(self, logits: Tensor, target: Tensor) -> Tensor:
        index = target[:, 0]  # (B, *spatial)
        valid = index != IGNORED_CLASS
        log_probability = F.log_softmax(logits, dim=1)
        entropy = F.nll_loss(log_probability, index, ignore_index=IGNORED_CLASS, reduction="sum")
        if self.label_smoothing:
            entropy = entropy.lerp(-(log_probability.mean(1) * valid).sum(), self.label_smoothing)
        rest = self.cross_entropy_weight * (entropy / valid.sum().clamp(min=1))
        if self.focal_weight:
            voxels = F.nll_loss(log_probability, index, ignore_index=IGNORED_CLASS, reduction="none")
            rest = rest + self._focal(voxels, valid)
        foreground = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, *[1] * (index.ndim - 1))
        truth = (target == foreground).to(logits.dtype)
        probability = log_probability[:, 1:].exp() * valid[:, None]
        return self._dice(probability, truth, valid[:, None]) + rest

    def _regions(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = (target != IGNORED_REGION).to(logits.dtype)
        truth = target * valid
        smoothed = truth.lerp(torch.full_like(truth, 0.5), self.label_smoothing) if self.label_smoothing else truth
        entropy = F.binary_cross_entropy_with_logits(logits, smoothed, weight=valid, reduction="sum")
        rest = self.cross_entropy_weight * (entropy / valid.sum().clamp(min=1))
        if self.focal_weight:
            voxels = F.binary_cross_entropy_with_logits(logits, truth, weight=valid, reduction="none")
            rest = rest + self._focal(voxels, valid)
        return self._dice(logits.sigmoid() * valid, truth, valid) + rest

    def _focal(self, voxels: Tensor, valid: Tensor) -> Tensor:
        """The weighted mean; `voxels` is the cross-entropy of each, 0 where not `valid`."""
        return self.focal_weight * focused(voxels, self.focal_gamma).sum() / valid.sum().clamp(min=1)

    def _dice(self, probability: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """`valid` `(B, 1 or C, *spatial)`: of each voxel, whether it counts."""
        axes = [0] * self.batch_dice + list(range(2, probability.ndim))
        found = self.smooth / 2 * valid.sum(axes) if self.smooth else 0.0
        both = (probability * truth).sum(axes) + found
        index = self.overlap(both, probability.sum(axes) + found, truth.sum(axes) + found, self.missed_weight)
        return self.dice_weight * (1 - index.mean())
