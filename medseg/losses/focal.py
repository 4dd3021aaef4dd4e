"""The focal loss (Lin et al., arXiv 1708.02002)."""

from __future__ import annotations

import torch
from torch import Tensor


def focused(entropy: Tensor, gamma: float) -> Tensor:
    """The focal loss of each voxel, of its cross-entropy: `(1 - p) ** gamma` times it, p being the true class's."""
    least = torch.finfo(entropy.dtype).eps if 0 < gamma < 1 else 0  # at 0 the power has no finite slope
    return (1 - torch.exp(-entropy)).clamp(min=least) ** gamma * entropy
