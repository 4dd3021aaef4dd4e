"""From the values of a label map to the target of a loss."""

from __future__ import annotations

import torch

from medseg.core.labels import Labels
from medseg.losses.target import IGNORED_CLASS, IGNORED_REGION


class LabelEncoder:
    """Label values `(B, 1, *spatial)` uint8 -> target of `losses.target`.

    Classes: int64 indices `(B, 1, *spatial)`, ignored voxels -100. Regions: float `(B, R, *spatial)` of 0 and 1,
    ignored voxels -1 in every region. What lies beyond an image (`Labels.beyond`) is ignored too.

    Args:
        labels: what the values mean.
    """

    def __init__(self, labels: Labels) -> None:
        if labels.regions:
            table = torch.zeros(256, len(labels.regions))
            for channel, values in enumerate(labels.regions.values()):
                table[list(values), channel] = 1.0
            ignored: float = IGNORED_REGION
        else:
            table = torch.zeros(256, dtype=torch.int64)  # 0 where a value means nothing: such labels are refused before
            table[list(labels.values)] = torch.arange(len(labels.values))
            ignored = IGNORED_CLASS
        if labels.beyond not in labels.values:
            table[labels.beyond] = ignored
        table[list(labels.ignored)] = ignored
        self.table = table

    def __call__(self, label: torch.Tensor) -> torch.Tensor:
        self.table = self.table.to(label.device)  # once: a GPU would have to be waited for
        encoded = self.table[label.long()]  # (B, 1, *spatial) or (B, 1, *spatial, R)
        return encoded.movedim(-1, 1).squeeze(2) if self.table.ndim == 2 else encoded
