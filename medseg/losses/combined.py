"""A sum of several terms for natural images: weights of classes, the hardest pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.core.types import Count, ProperFraction, Weight
from medseg.losses.cross_entropy import cross_entropy, of_hard_pixels
from medseg.losses.dice import dice_of_present
from medseg.losses.focal import focused
from medseg.losses.lovasz import lovasz_softmax
from medseg.losses.target import IGNORED_CLASS, weight_of


class CombinedLoss(nn.Module):
    """A weighted sum of cross-entropy, focal loss, Dice and Lovász-softmax over exclusive classes, in float32.

    Target int64 `(B, 1, *spatial)` of channel numbers, -100 where ignored. An ignored pixel changes nothing: every term
    is computed on the others alone.

    Args:
        cross_entropy_weight: of the mean cross-entropy; `hardest` and `ohem_threshold` are about its pixels.
        focal_weight: of the focal loss (Lin et al., arXiv 1708.02002) with the exponent `focal_gamma`.
        dice_weight: of 1 - soft Dice, the mean over the classes that occur in the batch.
        lovasz_weight: of the Lovász-softmax (Berman et al., arXiv 1705.08790), over the classes that occur.
        class_weights: one a channel, for cross-entropy and focal loss; means are weighted means.
        focal_gamma: the larger, the less the pixels count that are nearly right.
        hardest: cross-entropy of this share of the pixels only, those of the largest loss (0.2 in detectron2's
            DeepLab).
        ohem_threshold: cross-entropy of the pixels whose true class has a smaller probability (0.7 in HRNet), ...
        ohem_minimum: ... and of at least so many pixels of a batch.

    Raises:
        ValueError: `hardest` together with `ohem_threshold`.
    """

    ALTERNATIVES = (("hardest", "ohem_threshold", "two ways to choose pixels: give one"),)

    def __init__(
        self,
        cross_entropy_weight: Weight = 1.0,
        focal_weight: Weight = 0.0,
        dice_weight: Weight = 1.0,
        lovasz_weight: Weight = 0.0,
        class_weights: Sequence[float] | None = None,
        focal_gamma: Weight = 2.0,
        hardest: ProperFraction | None = None,
        ohem_threshold: ProperFraction | None = None,
        ohem_minimum: Count = 100_000,
    ) -> None:
        super().__init__()
        if hardest is not None and ohem_threshold is not None:
            raise ValueError(f"hardest and ohem_threshold are {self.ALTERNATIVES[0][-1]}")
        self.cross_entropy_weight = cross_entropy_weight
        self.focal_weight = focal_weight
        self.dice_weight = dice_weight
        self.lovasz_weight = lovasz_weight
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.focal_gamma = focal_gamma
        self.hardest = hardest
        self.ohem_threshold = ohem_threshold
        self.ohem_minimum = ohem_minimum

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            index = target[:, 0]
            log_probability = F.log_softmax(logits.float(), dim=1)
            weights = None if self.class_weights is None else self.class_weights.to(logits.device)
            loss = logits.new_zeros((), dtype=torch.float32)
            if self.cross_entropy_weight:
                loss = loss + self.cross_entropy_weight * self._cross_entropy(log_probability, index, weights)
            if self.focal_weight:
                loss = loss + self.focal_weight * self._focal(log_probability, index, weights)
            if self.dice_weight:
                loss = loss + self.dice_weight * dice_of_present(log_probability.exp(), index)
            if self.lovasz_weight:
                loss = loss + self.lovasz_weight * lovasz_softmax(log_probability.exp(), index)
            return loss

    def _cross_entropy(self, log_probability: Tensor, index: Tensor, weights: Tensor | None) -> Tensor:
        if self.hardest is None and self.ohem_threshold is None:
            return cross_entropy(log_probability, index, weights)
        return of_hard_pixels(
            log_probability,
            index,
            weights,
            hardest=self.hardest,
            ohem_threshold=self.ohem_threshold,
            ohem_minimum=self.ohem_minimum,
        )

    def _focal(self, log_probability: Tensor, index: Tensor, weights: Tensor | None) -> Tensor:
        entropy = F.nll_loss(log_probability, index, ignore_index=IGNORED_CLASS, reduction="none")  # 0 where ignored
        weight = weight_of(index, weights)
        return (focused(entropy, self.focal_gamma) * weight).sum() / weight.sum().clamp(min=1e-8)
