"""The loss of a network that returns more than its logits in training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from medseg.losses.target import counted, present, shrink


class AuxiliaryHeads(nn.Module):
    """The loss of the main logits plus weighted ones of whatever else a network returns in training.

    Further logits `(B, K, *spatial)` are auxiliary heads (Zhao et al., arXiv 1612.01105); `(B, K)` are EncNet's logits
    of which channels occur in the sample, compared by binary cross-entropy (Zhang et al., arXiv 1803.08904, 3.2); of a
    sample that is ignored as a whole nothing is known, and nothing learnt.

    Args:
        loss: of logits and target, as `DiceCrossEntropy`.
        weight: of each auxiliary head.
        presence_weight: of the presence loss.
    """

    def __init__(self, loss: nn.Module, weight: float = 0.4, presence_weight: float = 0.2) -> None:
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
                total = total + self.presence_weight * presence_loss(other.float(), target)
            else:
                total = total + self.weight * self.loss(other, shrink(target, other.shape[2:]))
        return total


def presence_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The mean over the samples `(B, K)` of which something is known; 0 where there is none."""
    known = counted(target)[:, None].to(logits.dtype)
    truth = present(target, logits.shape[1])
    entropy = F.binary_cross_entropy_with_logits(logits, truth, weight=known, reduction="sum")
    return entropy / (known.sum() * logits.shape[1]).clamp(min=1)
