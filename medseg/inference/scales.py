"""Test-time augmentation: the mean prediction over resized images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor
from torch.nn import functional as F

MODES = {2: "bilinear", 3: "trilinear"}


class ScaledInferer(Inferer):
    """Mean of the logits that `inferer` gives for the image at several scales, each brought back to the image's size.

    The mean is of logits, in float32, as in `MirroredInferer`, which goes around this one for "multi-scale and flip".

    Args:
        inferer: predicts one image.
        scales: factors on the image's size.
    """

    def __init__(self, inferer: Inferer, scales: Sequence[float]) -> None:
        super().__init__()
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales {list(scales)}: expected numbers above 0")
        self.inferer = inferer
        self.scales = tuple(scales)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        size = inputs.shape[2:]
        mode = MODES[len(size)]
        total: Tensor | None = None
        for scale in self.scales:
            new = [max(1, round(length * scale)) for length in size]
            resized = inputs if new == list(size) else F.interpolate(inputs.float(), new, mode=mode)
            logits = self.inferer(resized, network, *args, **kwargs).float()
            logits = logits if logits.shape[2:] == size else F.interpolate(logits, size, mode=mode)
            total = logits.clone() if total is None else total.add_(logits)
        assert isinstance(total, torch.Tensor)
        return total.div_(len(self.scales))
