"""Convolution peak, memory's rate, and the cost of every operator of a step: a part of `roofline.py`."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medseg.engine.device import memory_format

CAUSES = ("arithmetic", "memory", "narrow", "kernels", "depthwise", "other")
NARROW = 32
REST = "rest"
Clock = Callable[[], float]

CONVOLUTION = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default
# Where the arguments of the two have image, weight, transposed and groups.
PLACES = {CONVOLUTION: (0, 1, 6, 8), BACKWARD: (1, 2, 7, 9)}


def choose_clock(shared: bool) -> Clock:
    """Seconds; on a machine that other work shares, of the processor, divided by the threads."""
    return (lambda: time.process_time() / torch.get_num_threads()) if shared else time.perf_counter


def best(call: Callable[[], object], clock: Clock, least: float = 0.3) -> float:
    """The shortest seconds of a call, repeated for at least so many seconds and three times."""
    call()
    found: list[float] = []
    while len(found) < 3 or sum(found) < least:
        begun = clock()
        call()
        found.append(clock() - begun)
    return min(found)


def convolution_peak(precision: torch.dtype, clock: Clock) -> tuple[float, str]:
    """FLOP a second of the best large convolution (forward, channels last), and which it was."""
    found = {}
    for dims, size in ((2, (128, 128)), (2, (64, 64)), (3, (32, 32, 32)), (3, (16, 32, 32))):
        convolve = F.conv2d if dims == 2 else F.conv3d
        for channels in (64, 128, 256):
            image, weight = (
                torch.randn(shape).to(precision, memory_format=memory_format(dims))
                for shape in ((1, channels, *size), (channels, channels, *(3,) * dims))
            )
            with torch.no_grad():
                seconds = best(lambda: convolve(image, weight, padding=1), clock)  # noqa: B023
            flop = 2 * image[:, 0].numel() * channels**2 * 3**dims
            found[f"{dims}D, {channels} channels, {'x'.join(map(str, size))}"] = flop / seconds
    name = max(found, key=lambda one: found[one])
    return found[name], name


def memory_rate(clock: Clock) -> float:
    """Bytes a second of `c = a + b` on tensors far beyond the caches."""
    one, other, result = (torch.ones(2**26) for _ in range(3))
    return 3 * 4 * one.numel() / best(lambda: torch.add(one, other, out=result), clock)


@dataclass
class Cost:
    """Of operators: seconds by cause, FLOP of dense convolutions."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0.0))
    flop: float = 0.0

    def add(self, seconds: dict[str, float], flop: float = 0.0) -> None:
        self.flop += flop
        for cause, value in seconds.items():
            self.seconds[cause] += value

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def divided(seconds: float, flop: float, size: float, narrowest: int, peak: float, rate: float) -> dict[str, float]:
    """The seconds of a dense convolution by cause: at the peak, waiting for memory, and what neither explains.

    Args:
        size: bytes of its tensors.
        narrowest: channels of the side that has fewer.
        peak, rate: FLOP and bytes a second of the machine.
    """
    arithmetic = min(flop / peak, seconds)
    memory = min(max(size / rate - arithmetic, 0.0), seconds - arithmetic)
    rest = "narrow" if narrowest < NARROW else "kernels"
    return {"arithmetic": arithmetic, "memory": memory, rest: seconds - arithmetic - memory}


def convolution_flop(operator: Any, inputs: Sequence[Any], output: Any) -> tuple[float, int, int]:
    """FLOP of a convolution or of the gradients that its backward is asked for, its groups, and its fewer channels."""
    image, weight, transposed, groups = (inputs[place] for place in PLACES[operator])
    channels_in = image.shape[1]
    channels_out = weight.shape[1] * groups if transposed else weight.shape[0]
    # A kernel is laid once at each position of the output, or of the input where the convolution is transposed.
    moved = image if transposed else inputs[0] if operator is BACKWARD else output
    positions = moved.numel() // moved.shape[1]
    flop = 2.0 * positions * weight[0, 0].numel() * channels_in * channels_out / groups
    gradients = sum(inputs[10][:2]) if operator is BACKWARD else 1
    return flop * gradients, groups, min(channels_in, channels_out)


class Timed(TorchDispatchMode):
    """Times every operator that is called under it; `levels`: the costs by the stride of its largest map.

    Args:
        patch: voxels of the network's input along each axis.
        peak, rate: FLOP and bytes a second of the machine.
    """

    def __init__(self, patch: Sequence[int], peak: float, rate: float, clock: Clock) -> None:
        super().__init__()
        self.patch, self.peak, self.rate, self.clock = tuple(patch), peak, rate, clock
        self.levels: dict[str, Cost] = defaultdict(Cost)

    def __torch_dispatch__(self, operator: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        begun = self.clock()
        output = operator(*inputs, **(options or {}))
        seconds = self.clock() - begun
        tensors = [leaf for leaf in tree_leaves((inputs, options, output)) if isinstance(leaf, torch.Tensor)]
        cost = self.levels[self.level(tensors)]
        if operator not in PLACES:
            cost.add({"other": seconds})
            return output
        flop, groups, narrowest = convolution_flop(operator, inputs, output)
        if groups > 1:
            cost.add({"depthwise": seconds})
        else:
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            cost.add(divided(seconds, flop, size, narrowest, self.peak, self.rate), flop)
        return output

    def level(self, tensors: Sequence[torch.Tensor]) -> str:
        """`2x2x1`: the stride of the finest map, as a power of 2, since maps may be padded; `rest` without a map."""
        maps = [tensor for tensor in tensors if tensor.dim() == len(self.patch) + 2 and tensor.numel()]
        if not maps:
            return REST
        finest = max(maps, key=lambda tensor: tensor[0, 0].numel()).shape[2:]
        strides = [
            2 ** max(round(math.log2(length / size)), 0) for length, size in zip(self.patch, finest, strict=True)
        ]
        return "x".join(map(str, strides))
