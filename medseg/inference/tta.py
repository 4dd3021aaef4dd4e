"""Test-time augmentation: the mean prediction over mirrored images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor


class MirroredInferer(Inferer):
    """Mean of the logits that `inferer` gives for the image mirrored along every combination of `axes`.

    With n axes the network runs 2 ** n times. The mean is of logits, in float32, as in nnU-Net.

    Args:
        inferer: predicts one image, for example MONAI's `SlidingWindowInferer`.
        axes: spatial axes, 0 the first one after the channels.
    """

    def __init__(self, inferer: Inferer, axes: Sequence[int]) -> None:
        super().__init__()
        self.inferer = inferer
        self.axes = tuple(axes)

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        subsets = chain.from_iterable(combinations(self.axes, count) for count in range(len(self.axes) + 1))
        total: Tensor | None = None
        count = 0
        for subset in subsets:
            flipped = [axis + 2 for axis in subset]
            logits = self.inferer(torch.flip(inputs, flipped) if flipped else inputs, network, *args, **kwargs)
            logits = torch.flip(logits.float(), flipped) if flipped else logits.float()
            total = logits.clone() if total is None else total.add_(logits)
            count += 1
        assert total is not None  # the empty combination is always one of the subsets
        return total.div_(count)
