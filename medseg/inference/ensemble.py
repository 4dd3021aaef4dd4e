"""Several networks that see the same image: the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.inferers import Inferer
from torch import Tensor, nn


class EnsembleInferer(Inferer):
    """Mean of the logits of all networks, in float32, one after the other: two volumes of logits are held at once.

    The mean is of logits, as nnU-Net's over folds: a softmax of it is the (normalised) geometric mean of the
    probabilities, so one member that is sure of the opposite weighs more than in a vote.

    Args:
        inferers: how each network predicts one image; its own window and mirroring.
    """

    def __init__(self, inferers: Sequence[Inferer]) -> None:
        super().__init__()
        self.inferers = list(inferers)

    def __call__(self, inputs: Tensor, network: nn.ModuleList, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        if len(network) != len(self.inferers):
            raise ValueError(f"{len(network)} networks for {len(self.inferers)} inferers")
        total: Tensor | None = None
        for inferer, member in zip(self.inferers, network, strict=True):
            logits = inferer(inputs, member, *args, **kwargs)
            total = logits.float().clone() if total is None else total.add_(logits.float())
        assert total is not None, "an ensemble has members"
        return total.div_(len(self.inferers))
