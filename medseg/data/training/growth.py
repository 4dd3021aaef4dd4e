"""Patches that grow while a run goes on (Fischer et al., arXiv 2510.23241)."""

from __future__ import annotations

from collections.abc import Sequence

PARTS = (4, 5, 6, 7)  # eighths of each side of the full patch, one after the other
UNKNOWN = 32  # voxels that the coarsest map of a network takes as one, where nobody knows


class PatchGrowth:
    """The size of the patches as a function of a run's progress: from half of each side to `patch_size`.

    The number of samples in a step stays, so steps on small patches are cheaper, and a budget in minutes holds more of
    them. (A batch that grows as the patch shrinks keeps the cost of a step, but the number of a sample would depend on
    the sizes before it.) A network first learns from many places what it later puts together.

    Args:
        patch_size: the full one, from the share of the budget on in which patches grow.
        share: of the budget in which they grow, in four equal parts; not 0.
        multiple: voxels along each axis of which the sizes before are multiples, as the coarsest map of the network
            takes so many as one; default: 32, which holds for encoders.

    `sizes` are those before the full one.
    """

    def __init__(self, patch_size: Sequence[int], share: float, multiple: Sequence[int] | None = None) -> None:
        self.patch_size, self.share = tuple(patch_size), share
        steps = [UNKNOWN] * len(self.patch_size) if multiple is None else multiple
        pairs = list(zip(self.patch_size, steps, strict=True))
        self.sizes = [tuple(_part(full, eighths, step) for full, step in pairs) for eighths in PARTS]

    def size(self, progress: float) -> tuple[int, ...]:
        """Voxels along each axis at that share of the budget."""
        part = int(progress / self.share * len(self.sizes))
        return self.sizes[part] if part < len(self.sizes) else self.patch_size


def _part(full: int, eighths: int, step: int) -> int:
    """So many eighths of a side, down to a multiple, but one of them at least, where the side holds one."""
    return max(full * eighths // 8 // step * step, min(step, full))
