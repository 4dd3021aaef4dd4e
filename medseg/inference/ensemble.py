"""Several networks that see the same image: the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from medseg.core.labels import Labels
from medseg.inference.maps import Moments


class EnsembleInferer(Inferer):
    """Mean of the logits of all networks, in float32, one after the other: two volumes of logits are held at once.

    The mean is of logits, as nnU-Net's over folds: a softmax of it is the (normalised) geometric mean of the
    probabilities, so one member that is sure of the opposite weighs more than in a vote.

    Args:
        inferers: how each network predicts one image; its own window and mirroring.
        moments: also the mean and the variance of each target's probability over the networks, as further channels
            (K logits, then T means, then T variances), of probabilities as `labels` has them.
        labels: needed for the moments.
    """

    def __init__(self, inferers: Sequence[Inferer], moments: bool = False, labels: Labels | None = None) -> None:
        super().__init__()
        if moments and labels is None:
            raise ValueError("moments are of probabilities: give the labels")
        self.inferers = list(inferers)
        self.labels = labels if moments else None

    def __call__(self, inputs: Tensor, network: nn.ModuleList, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        if len(network) != len(self.inferers):
            raise ValueError(f"{len(network)} networks for {len(self.inferers)} inferers")
        total: Tensor | None = None
        moments = None if self.labels is None else [Moments(self.labels) for _ in inputs]
        for inferer, member in zip(self.inferers, network, strict=True):
            logits = inferer(inputs, member, *args, **kwargs)
            total = logits.float().clone() if total is None else total.add_(logits.float())
            if moments is not None:
                for one, image in zip(moments, logits, strict=True):
                    one.add(image.float())
        assert total is not None, "an ensemble has members"
        mean = total.div_(len(self.inferers))
        if moments is None:
            return mean
        return torch.stack([torch.cat([image, *one.result()]) for image, one in zip(mean, moments, strict=True)])
