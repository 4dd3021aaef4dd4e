"""Dice + cross-entropy, over exclusive classes or overlapping regions, and its deep supervision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED_CLASS = -100  # in an index target; torch's own convention
IGNORED_REGION = -1.0  # in a region target
SMOOTH = 1e-5  # keeps the Dice of an absent structure finite, as nnU-Net has it


class DiceCrossEntropy(nn.Module):
    """`dice_weight * (1 - soft Dice) + cross_entropy_weight * cross-entropy`, in float32 whatever the autocast.

    Classes (softmax): target int64 `(B, 1, *spatial)` of channel numbers, -100 where ignored; the background (channel
    0) does not count in the Dice. Regions (sigmoid): target float `(B, R, *spatial)` of 0 and 1, -1 where ignored.
    An ignored voxel changes nothing: neither a sum nor a mean nor a gradient.

    Args:
        batch_dice: sum over the batch before the ratio (steadier for small structures), not a Dice for each sample.
        regions: sigmoid for each channel in the place of one softmax.
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        batch_dice: bool = True,
        regions: bool = False,
    ) -> None:
        super().__init__()
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
        foreground = torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, *[1] * (index.ndim - 1))
        truth = (target == foreground).to(logits.dtype)
        probability = log_probability[:, 1:].exp() * valid[:, None]
        return self._combine(probability, truth, entropy)

    def _regions(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = (target != IGNORED_REGION).to(logits.dtype)
        truth = target * valid
        entropy = F.binary_cross_entropy_with_logits(logits, truth, weight=valid, reduction="sum")
        return self._combine(logits.sigmoid() * valid, truth, entropy / valid.sum().clamp(min=1))

    def _combine(self, probability: Tensor, truth: Tensor, entropy: Tensor) -> Tensor:
        axes = [0] * self.batch_dice + list(range(2, probability.ndim))
        overlap = (probability * truth).sum(axes)
        total = probability.sum(axes) + truth.sum(axes)
        dice = (2 * overlap + SMOOTH) / (total + SMOOTH)
        return self.dice_weight * (1 - dice.mean()) + self.cross_entropy_weight * entropy


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
