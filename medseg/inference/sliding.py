"""The sliding window, without the network's work on windows that hold nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor


class WindowInferer(SlidingWindowInferer):
    """MONAI's sliding window; of all windows of one constant value, the network sees one.

    Such windows lie outside the body: air in CT, clipped to the lower end of the window of Hounsfield units, or the
    zeros around a brain whose skull was removed. In evaluation mode a network gives every one of them the same logits,
    so nothing is approximated. Arguments are MONAI's.
    """

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        known: dict[tuple[float, ...], Tensor] = {}  # values of the channels -> logits (K, *window)

        def each_constant_once(windows: Tensor, *more: Any, **named: Any) -> Tensor:
            low, high = windows.flatten(2).aminmax(dim=2)
            values = [tuple(row) for row in low.tolist()]
            constant = (low == high).all(1).tolist()
            wanted: list[int] = []  # windows that the network must see
            for index, value in enumerate(values):
                first = value not in known and value not in (values[other] for other in wanted if constant[other])
                if first or not constant[index]:
                    wanted.append(index)
            if len(wanted) == len(values) and not any(constant):
                return network(windows, *more, **named)
            found = dict(zip(wanted, network(windows[wanted], *more, **named) if wanted else (), strict=True))
            known.update((values[index], logits) for index, logits in found.items() if constant[index])
            return torch.stack([found[n] if n in found else known[values[n]] for n in range(len(values))])

        return super().__call__(inputs, each_constant_once, *args, **kwargs)
