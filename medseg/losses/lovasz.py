"""Lovász-softmax: a convex extension of 1 - IoU (Berman et al., arXiv 1705.08790)."""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.losses.target import IGNORED_CLASS


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
