"""Dice + cross-entropy, over exclusive classes or overlapping regions, and its deep supervision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED_CLASS = -100  # in an index target; torch's own convention
IGNORED_REGION = -1.0  # in a region target
OVERLAPS = ("dice", "generalised_dice", "tversky")
SMOOTH = 1e-5  # keeps the Dice of an absent structure finite, as nnU-Net has it


class DiceCrossEntropy(nn.Module):
    """`dice_weight * (1 - soft Dice) + cross_entropy_weight * cross-entropy`, in float32 whatever the autocast.

    Classes (softmax): target int64 `(B, 1, *spatial)` of channel numbers, -100 where ignored; the background (channel
    0) does not count in the Dice. Regions (sigmoid): target float `(B, R, *spatial)` of 0 and 1, -1 where ignored.
    An ignored voxel changes nothing: neither a sum nor a mean nor a gradient.

    Args:
        batch_dice: sum over the batch before the ratio (steadier for small structures), not a Dice for each sample.
        regions: sigmoid for each channel in the place of one softmax.
        overlap: "dice"; "generalised_dice" (Sudre et al., arXiv 1707.03237: one ratio, each structure weighted by the
            inverse square of its volume, so that small ones count as much as large ones); or "tversky" (Salehi et al.,
            arXiv 1706.05721).
        missed_weight: of the missed voxels in the Tversky index; the invented ones have the rest of 1.
        focal_weight: of the focal loss (Lin et al., arXiv 1708.02002) with the exponent `focal_gamma`.

    Raises:
        ValueError: an unknown overlap.
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        batch_dice: bool = True,
        regions: bool = False,
        overlap: str = "dice",
        missed_weight: float = 0.7,
        focal_weight: float = 0.0,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        if overlap not in OVERLAPS:
            raise ValueError(f"overlap {overlap!r} is unknown; known: {', '.join(OVERLAPS)}")
        self.overlap = overlap
        self.missed_weight = missed_weight
        self.focal_weight = focal_weight
        self.focal_gamma = focal_gamma
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
        entropy = entropy / valid.sum().clamp(min=1)
        if self.focal_weight:
            voxels = F.nll_loss(log_probability, index, ignore_index=IGNORED_CLASS, reduction="none")
            entropy = self._with_focal(entropy, voxels, valid)
        foreground = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, *[1] * (index.ndim - 1))
        truth = (target == foreground).to(logits.dtype)
        probability = log_probability[:, 1:].exp() * valid[:, None]
        return self._combine(probability, truth, entropy)

    def _regions(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = (target != IGNORED_REGION).to(logits.dtype)
        truth = target * valid
        entropy = F.binary_cross_entropy_with_logits(logits, truth, weight=valid, reduction="sum")
        entropy = entropy / valid.sum().clamp(min=1)
        if self.focal_weight:
            voxels = F.binary_cross_entropy_with_logits(logits, truth, weight=valid, reduction="none")
            entropy = self._with_focal(entropy, voxels, valid)
        return self._combine(logits.sigmoid() * valid, truth, entropy)

    def _with_focal(self, entropy: Tensor, voxels: Tensor, valid: Tensor) -> Tensor:
        """The weighted cross-entropy and focal loss; `voxels` is the cross-entropy of each, 0 where not `valid`."""
        focused = (1 - torch.exp(-voxels)).clamp(min=0) ** self.focal_gamma * voxels
        return self.cross_entropy_weight * entropy + self.focal_weight * focused.sum() / valid.sum().clamp(min=1)

    def _combine(self, probability: Tensor, truth: Tensor, entropy: Tensor) -> Tensor:
        axes = [0] * self.batch_dice + list(range(2, probability.ndim))
        both = (probability * truth).sum(axes)
        predicted, true = probability.sum(axes), truth.sum(axes)
        if self.overlap == "dice":
            index = (2 * both + SMOOTH) / (predicted + true + SMOOTH)
        elif self.overlap == "tversky":
            errors = (1 - self.missed_weight) * (predicted - both) + self.missed_weight * (true - both)
            index = (both + SMOOTH) / (both + errors + SMOOTH)
        else:
            weights = torch.where(true > 0, 1 / true.clamp(min=1) ** 2, 0)
            largest = weights.amax(-1, keepdim=True)  # a structure that is not there counts like the smallest that is
            weights = torch.where(true > 0, weights, torch.where(largest > 0, largest, 1))
            weights = weights / weights.amax(-1, keepdim=True)
            index = (2 * (weights * both).sum(-1) + SMOOTH) / ((weights * (predicted + true)).sum(-1) + SMOOTH)
        rest = entropy if self.focal_weight else self.cross_entropy_weight * entropy
        return self.dice_weight * (1 - index.mean()) + rest


class DeepSupervision(nn.Module):
    """The mean of a loss over logits at several resolutions, with weights 1, 1/2, 1/4, ... that add up to one.

    The target is brought to the size of each by taking the nearest voxels; a single tensor of logits passes through.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        if isinstance(logits, Tensor):
            return self.loss(logits, target)
        weights = [0.5**level for level in range(len(logits))]
        losses = [
            weight * self.loss(level, shrink(target, level.shape[2:]))
            for weight, level in zip(weights, logits, strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)


class AuxiliaryHeads(nn.Module):
    """The loss of the main logits plus weighted ones of whatever else a network returns in training.

    Further logits `(B, K, *spatial)` are auxiliary heads (Zhao et al., arXiv 1612.01105); `(B, K)` are EncNet's logits
    of which channels occur in the sample, compared by binary cross-entropy (Zhang et al., arXiv 1803.08904, 3.2).

    Args:
        loss: of logits and target, as `DiceCrossEntropy`.
        weight: of each auxiliary head.
        presence_weight: of the presence loss.
    """

    def __init__(self, loss: DiceCrossEntropy, weight: float = 0.4, presence_weight: float = 0.2) -> None:
        super().__init__()
        self.loss = loss
        self.weight = weight
        self.presence_weight = presence_weight

    def forward(self, logits: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        if isinstance(logits, Tensor):
            return self.loss(logits, target)
        main, *others = logits
        total = self.loss(main, target)
        for other in others:
            if other.ndim == 2:
                truth = present(target, other.shape[1])
                total = total + self.presence_weight * F.binary_cross_entropy_with_logits(other.float(), truth)
            else:
                total = total + self.weight * self.loss(other, shrink(target, other.shape[2:]))
        return total


def present(target: Tensor, channels: int) -> Tensor:
    """Which channels occur in each sample: target (indices or regions) -> `(B, channels)` of 0 and 1."""
    if target.is_floating_point():
        return (target == 1).flatten(2).any(2).float()
    flat = target.flatten(1)
    return torch.stack([(flat == channel).any(1) for channel in range(channels)], dim=1).float()


def shrink(target: Tensor, size: Sequence[int]) -> Tensor:
    """`(B, C, *spatial)` -> `(B, C, *size)`, voxel `floor(i * spatial / size)` for each i.

    That is the voxel under the centre of a strided convolution's output i, where sizes divide.
    """
    for axis, length in enumerate(size, start=2):
        full = target.shape[axis]
        if full == length:
            continue
        if full % length == 0:
            target = target[(slice(None),) * axis + (slice(None, None, full // length),)]
        else:
            index = torch.arange(length, device=target.device) * full // length
            target = target.index_select(axis, index)
    return target


# --- natural images: several terms, weights of classes, the hardest pixels -------------------------------------------


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
        hardest: keep this share of the pixels, those of the largest loss (0.2 in detectron2's DeepLab).
        ohem_threshold: keep the pixels whose true class has a smaller probability (0.7 in HRNet), at least
            `ohem_minimum` (online hard example mining, Shrivastava et al., arXiv 1604.03540).

    Raises:
        ValueError: `hardest` together with `ohem_threshold`.
    """

    def __init__(
        self,
        cross_entropy_weight: float = 1.0,
        focal_weight: float = 0.0,
        dice_weight: float = 0.0,
        lovasz_weight: float = 0.0,
        class_weights: Sequence[float] | None = None,
        focal_gamma: float = 2.0,
        hardest: float | None = None,
        ohem_threshold: float | None = None,
        ohem_minimum: int = 100_000,
    ) -> None:
        super().__init__()
        if hardest is not None and ohem_threshold is not None:
            raise ValueError("hardest and ohem_threshold are two ways to choose pixels: give one")
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
            total = F.nll_loss(log_probability, index, weights, ignore_index=IGNORED_CLASS, reduction="sum")
            return total / weight_of(index, weights).sum().clamp(min=1e-8)
        valid = index != IGNORED_CLASS
        pixels = F.nll_loss(log_probability, index, ignore_index=IGNORED_CLASS, reduction="none")[valid]
        if not pixels.numel():
            return log_probability.sum() * 0
        if self.hardest is not None:
            kept = pixels.topk(max(1, int(self.hardest * pixels.numel())), sorted=False).indices
        else:
            assert self.ohem_threshold is not None
            fewest = min(self.ohem_minimum, pixels.numel())
            limit = pixels.detach().kthvalue(pixels.numel() - fewest + 1).values  # the smallest loss among the fewest
            kept = (pixels >= limit.clamp(max=-math.log(self.ohem_threshold))).nonzero()[:, 0]
        weight = weight_of(index, weights)[valid][kept]
        return (pixels[kept] * weight).sum() / weight.sum().clamp(min=1e-8)

    def _focal(self, log_probability: Tensor, index: Tensor, weights: Tensor | None) -> Tensor:
        entropy = F.nll_loss(log_probability, index, ignore_index=IGNORED_CLASS, reduction="none")  # 0 where ignored
        weight = weight_of(index, weights)
        focused = (1 - torch.exp(-entropy)).clamp(min=0) ** self.focal_gamma * entropy
        return (focused * weight).sum() / weight.sum().clamp(min=1e-8)


def weight_of(index: Tensor, weights: Tensor | None) -> Tensor:
    """The weight of every pixel: of its class, or 1; 0 where it is ignored."""
    valid = index != IGNORED_CLASS
    return valid.float() if weights is None else weights[index.clamp(min=0)] * valid


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


def lovasz_softmax(probability: Tensor, index: Tensor) -> Tensor:
    """The Lovász extension of 1 - IoU of a batch, the mean over the classes that occur (arXiv 1705.08790, 3.2)."""
    valid = index != IGNORED_CLASS
    pixels, truth = probability.movedim(1, -1)[valid], index[valid]  # (N, K), (N,)
    losses = []
    for channel in truth.unique().tolist():
        errors = ((truth == channel).float() - pixels[:, channel]).abs()
        order = errors.detach().argsort(descending=True)
        sorted_truth = (truth[order] == channel).float()
        losses.append((errors[order] * jaccard_steps(sorted_truth)).sum())
    return torch.stack(losses).mean() if losses else probability.sum() * 0


def jaccard_steps(truth: Tensor) -> Tensor:
    """How much 1 - IoU grows with each further error, the largest error first: truth `(N,)` of 0 and 1 -> `(N,)`."""
    inside = truth.sum()
    jaccard = 1 - (inside - truth.cumsum(0)) / (inside + (1 - truth).cumsum(0))
    return torch.cat((jaccard[:1], jaccard.diff()))
