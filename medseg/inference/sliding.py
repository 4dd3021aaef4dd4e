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
            lowest, highest = torch.stack(windows.flatten(2).aminmax(dim=2)).tolist()
            keys = [tuple(low) if low == high else n for n, (low, high) in enumerate(zip(lowest, highest, strict=True))]
            if all(isinstance(key, int) for key in keys):
                return network(windows, *more, **named)
            wanted: dict[Any, int] = {}  # the first window of each key
            for n, key in enumerate(keys):
                if key not in known:
                    wanted.setdefault(key, n)
            found: dict[Any, Tensor] = dict(known)
            if wanted:
                logits = network(windows[list(wanted.values())], *more, **named)
                found.update(zip(wanted, logits, strict=True))
                known.update({key: found[key].clone() for key in wanted if isinstance(key, tuple)})
            return torch.stack([found[key] for key in keys])  # a copy each: MONAI weights them in place

        return super().__call__(inputs, each_constant_once, *args, **kwargs)
