"""Cross-entropy with weights of classes, of all pixels or of the hard ones."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from medseg.losses.target import IGNORED_CLASS, weight_of


def cross_entropy(log_probability: Tensor, index: Tensor, weights: Tensor | None) -> Tensor:
    """The weighted mean over the pixels: `(B, K, *spatial)` and `(B, *spatial)` -> a number."""
    total = F.nll_loss(log_probability, index, weights, ignore_index=IGNORED_CLASS, reduction="sum")
    return total / weight_of(index, weights).sum().clamp(min=1e-8)


def of_hard_pixels(
    log_probability: Tensor,
    index: Tensor,
    weights: Tensor | None,
    *,
    hardest: float | None,
    ohem_threshold: float | None,
    ohem_minimum: int,
) -> Tensor:
    """As `cross_entropy`, of the share `hardest` of the pixels, those of the largest loss; where that is None, of those
    whose true class has a probability below `ohem_threshold`, and of at least `ohem_minimum` (online hard example
    mining, Shrivastava et al., arXiv 1604.03540)."""
    valid = index != IGNORED_CLASS
    pixels = F.nll_loss(log_probability, index, ignore_index=IGNORED_CLASS, reduction="none")[valid]
    if not pixels.numel():
        return log_probability.sum() * 0
    if hardest is not None:
        kept = pixels.topk(max(1, int(hardest * pixels.numel())), sorted=False).indices
    else:
        assert ohem_threshold is not None
        fewest = min(ohem_minimum, pixels.numel())
        limit = pixels.detach().kthvalue(pixels.numel() - fewest + 1).values  # the smallest loss among the fewest
        kept = (pixels >= limit.clamp(max=-math.log(ohem_threshold))).nonzero()[:, 0]
    weight = weight_of(index, weights)[valid][kept]
    return (pixels[kept] * weight).sum() / weight.sum().clamp(min=1e-8)
