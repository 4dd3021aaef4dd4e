"""The loss of a network that returns its logits at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.losses.target import shrink


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
