"""The whole image at once, in the place of a sliding window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.inferers import Inferer
from torch import Tensor
from torch.nn import functional as F


class WholeImageInferer(Inferer):
    """The network's prediction of the whole image, whose sides are first continued to a multiple of `multiple`.

    A network's coarse maps cover whole strides: 12 rows at a stride of 32 are 384 pixels. Stretched over an image of
    360 rows, as a resize to the next finer map does, they would be out of register by up to 24 pixels; training crops,
    multiples of the stride, never are. The border's pixels are repeated, and what they add is cut off again.

    Args:
        multiple: of pixels (voxels), one for all axes or one an axis: the network's coarsest stride, or a multiple.
    """

    def __init__(self, multiple: int | Sequence[int] = 32) -> None:
        super().__init__()
        if min([multiple] if isinstance(multiple, int) else multiple) < 1:
            raise ValueError(f"multiple {multiple}: expected 1 or more")
        self.multiple = multiple

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        size = inputs.shape[2:]
        multiples = [self.multiple] * len(size) if isinstance(self.multiple, int) else self.multiple
        missing = [-length % multiple for length, multiple in zip(size, multiples, strict=True)]
        pads = [x for length in reversed(missing) for x in (0, length)]  # F.pad begins with the last axis
        padded = F.pad(inputs, pads, mode="replicate") if any(pads) else inputs
        inside = (slice(None), slice(None), *(slice(length) for length in size))
        return network(padded, *args, **kwargs)[inside]
