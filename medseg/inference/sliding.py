"""The sliding window, without the network's work on windows that hold nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import ceil
from typing import Any

import torch
from monai.data.utils import compute_importance_map
from monai.inferers import Inferer
from monai.utils import fall_back_tuple
from torch import Tensor
from torch.nn import functional as F

Box = tuple[slice, ...]


class WindowInferer(Inferer):
    """MONAI's sliding window, its windows evenly spread; of all windows of one constant value, the network sees one.

    Such windows lie outside the body: air in CT, clipped to the lower end of the window of Hounsfield units, or the
    zeros around a brain whose skull was removed. In evaluation mode a network gives every one of them the same logits,
    so nothing is approximated. Where the last of MONAI's windows would be pushed back onto the one before it, all of
    them move a little: as many windows, overlapping more where they overlap least. The network gets full batches.

    Arguments are named as MONAI's. The network gives one tensor of logits, at the size of the window.

    Args:
        roi_size: of a window, one number or one an axis; of -1 the whole axis.
        sw_batch_size: windows at once.
        overlap: the least of two neighbours, as a share of a window, one number or one an axis; from 0 to below 1.
        mode: how windows are weighted where they overlap, `constant` or `gaussian`.
    """

    def __init__(
        self,
        roi_size: int | Sequence[int],
        sw_batch_size: int = 1,
        overlap: float | Sequence[float] = 0.25,
        mode: str = "constant",
    ) -> None:
        self.roi_size, self.sw_batch_size, self.overlap, self.mode = roi_size, sw_batch_size, overlap, mode

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """`(B, C, *spatial)` -> logits `(B, K, *spatial)`, in the type of the inputs."""
        window = fall_back_tuple(self.roi_size, inputs.shape[2:])
        padded, inside = _padded(inputs, window)
        weight = compute_importance_map(window, mode=self.mode, device=inputs.device, dtype=inputs.dtype)
        boxes = windows(padded.shape[2:], window, self.overlap)
        count = torch.zeros(padded.shape[2:], dtype=inputs.dtype, device=inputs.device)
        for box in boxes:
            count[box] += weight

        def of(batch: Tensor) -> Tensor:
            return network(batch, *args, **kwargs)

        images = [self._image(image, boxes, weight, of) for image in padded]
        logits = images[0][None] if len(images) == 1 else torch.stack(images)  # of a whole body, a copy is a gigabyte
        return logits.div_(count)[(slice(None), slice(None), *inside)]

    def _image(
        self, image: Tensor, boxes: Sequence[Box], weight: Tensor, network: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Weighted sums of logits, `(C, *spatial)` -> `(K, *spatial)`."""
        total: Tensor | None = None
        for box, logits in self._logits(image, boxes, network):
            if total is None:
                total = torch.zeros(len(logits), *image.shape[1:], dtype=image.dtype, device=image.device)
            total[(slice(None), *box)] += logits * weight
        assert total is not None  # there is a window
        return total

    def _logits(
        self, image: Tensor, boxes: Sequence[Box], network: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[Box, Tensor]]:
        """Each window in its order, with its logits `(K, *window)`."""
        keys = [constant(image[(slice(None), *box)]) or number for number, box in enumerate(boxes)]
        first = {key: number for number, key in reversed([*enumerate(keys)])}  # the windows that the network sees
        wanted = sorted(first.values())
        known: dict[Any, Tensor] = {}
        for key, box in zip(keys, boxes, strict=True):
            if key not in known:
                batch, wanted = wanted[: self.sw_batch_size], wanted[self.sw_batch_size :]
                found = network(torch.stack([image[(slice(None), *boxes[number])] for number in batch]))
                known.update(zip((keys[number] for number in batch), found, strict=True))
            yield box, known[key]
            if isinstance(key, int):
                del known[key]


def windows(size: Sequence[int], window: Sequence[int], overlap: float | Sequence[float]) -> list[Box]:
    """The windows that cover an image, evenly spread along each axis.

    Args:
        size: of the image, along no axis smaller than the window.
        overlap: the least of two neighbours, as a share of a window, one number or one an axis; from 0 to below 1.
    """
    shares = overlap if isinstance(overlap, Sequence) else [overlap] * len(size)
    axes = []
    for length, side, share in zip(size, window, shares, strict=True):
        step = max(1, int(side * (1 - share)))
        steps = ceil((length - side) / step)
        starts = [round(number * (length - side) / steps) for number in range(steps + 1)] if steps else [0]
        axes.append([slice(start, start + side) for start in starts])
    return list(product(*axes))


def constant(window: Tensor) -> tuple[float, ...] | None:
    """The values of the channels of a window `(C, *spatial)`, where each is the same everywhere."""
    lowest, highest = torch.stack(window.flatten(1).aminmax(dim=1)).tolist()
    return tuple(lowest) if lowest == highest else None


def _padded(inputs: Tensor, window: Sequence[int]) -> tuple[Tensor, Box]:
    """The images with zeros around them where they are smaller than a window, and where they lie in it."""
    missing = [max(0, side - length) for side, length in zip(window, inputs.shape[2:], strict=True)]
    inside = tuple(slice(m // 2, m // 2 + length) for m, length in zip(missing, inputs.shape[2:], strict=True))
    around = [amount for m in reversed(missing) for amount in (m // 2, m - m // 2)]
    return (F.pad(inputs, around) if any(missing) else inputs), inside
