"""Receptive fields of a network: what it can see by its construction, and how much of that matters.

The theoretical field is computed from the network itself: `Trace` watches it run, without memory, on an image that is
larger than any field, and follows the interval of voxels that each position of a map depends on (`reach.py`). That
counts every path through convolutions, poolings and resizes. What takes in the whole image at once (the statistics of
instance and group norm, global pooling, attention) is named beside it.

The effective field (Luo et al., arXiv 1701.04128) is measured by gradients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from medseg.networks.analysis.pretended import Pretended
from medseg.networks.analysis.reach import GRID, MIXING, POINTWISE, POOLING, RULES, Call, Reach, Span, joined, unknown

# Edges of the image that the fields are computed in; the larger one for those that fill half of the smaller.
EDGES = (4096, 65536)


@dataclass(frozen=True)
class Field:
    """What one position of a map sees.

    Attributes:
        voxels: extent along each axis of the image, through convolutions, poolings and resizes; empty: nothing so.
        whole_image_by: what else takes in the whole image.
    """

    voxels: tuple[int, ...]
    whole_image_by: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A map on the way through a network.

    Attributes:
        name: of the part that makes it, and its number where that makes several.
        stride: voxels of the image from one position to the next, along each axis.
    """

    name: str
    channels: int
    field: Field
    stride: tuple[float, ...]


@dataclass(frozen=True)
class Survey:
    """What `survey` finds: the maps of a network's parts, the logits last, and the stride of its coarsest map."""

    stages: tuple[Stage, ...]
    output_stride: tuple[float, ...]


def survey(network: Pretended, in_channels: int, spatial_dims: int) -> Survey:
    """The maps that a network's parts return, in the order in which they are computed, and at last its logits.

    A part is a child of the network (or an entry of a list of them); an encoder returns several maps. Poolings, resizes
    and other parts without parameters are left out.

    Raises:
        ValueError: a field that does not fit into any image of `EDGES`.
    """
    for edge in EDGES:
        found = _survey_at(network, (1, in_channels, *[edge] * spatial_dims))
        if found is not None and all(2 * length <= edge for stage in found.stages for length in stage.field.voxels):
            return found
    raise ValueError(f"the receptive field is larger than {EDGES[-1] // 2} voxels")


def _survey_at(network: Pretended, shape: Sequence[int]) -> Survey | None:
    """What there is to see on an image of that shape; None where a kernel is wider than half of its map."""
    found: dict[str, Stage] = {}
    strides = [(1.0,) * (len(shape) - 2)]
    widest = 0.0
    trace = Trace()

    def note(name: str, output: Any) -> None:
        if not isinstance(output, Tensor):
            for index, part in enumerate(output if isinstance(output, list | tuple) else ()):
                note(f"{name}.{index}", part)
        elif output.ndim == len(shape) and (reach := trace.reach(output)) and name not in found:
            found[name] = Stage(name, output.shape[1], field_of(reach), _strides(reach, shape, output))

    def note_convolution(convolution: Any, args: Any, output: Tensor) -> None:
        nonlocal widest
        reach = trace.reach(output)
        for axis, span in enumerate(reach.spans if reach else ()):
            extent = (convolution.kernel_size[axis] - 1) * convolution.dilation[axis]
            widest = max(widest, extent / len(span.low))
        if reach and output.ndim == len(shape) and (reach.spans or not reach.whole & {POOLING, GRID}):
            strides.append(_strides(reach, shape, output))

    hooks = [
        part.register_forward_hook(lambda module, args, output, name=name: note(name, output))
        for name, part in _parts(network.module)
    ]
    hooks += [
        part.register_forward_hook(note_convolution) for part in network.module.modules() if isinstance(part, _ConvNd)
    ]
    try:
        with network.mode, torch.no_grad():
            image = torch.empty(tuple(shape))
            with trace:
                trace.start(image)
                note("logits", network.module.eval()(image))
    finally:
        for hook in hooks:
            hook.remove()
    return Survey(tuple(found.values()), max(strides, key=prod)) if widest <= 0.5 else None


def _parts(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _parts(child, f"{prefix}{name}.")
        elif next(child.parameters(), None) is not None:
            yield f"{prefix}{name}", child


def field_of(reach: Reach) -> Field:
    """The largest extent over all positions: they differ where linear up-sampling is not of whole steps."""
    voxels = tuple(int(max((span.high - span.low + 1).max(), 0)) for span in reach.spans)
    return Field(voxels, tuple(sorted(reach.whole)))


def _strides(reach: Reach, shape: Sequence[int], output: Tensor) -> tuple[float, ...]:
    if reach.spans:
        return tuple(_stride(span) for span in reach.spans)
    return tuple(image / length for image, length in zip(shape[2:], output.shape[2:], strict=True))


def _stride(span: Span) -> float:
    """Mean distance of neighbouring centres, over a power of 2 in the middle: borders and phases do not matter."""
    length = len(span.low)
    distance = 2 ** max((length // 2).bit_length() - 1, 0)
    first = (length - distance) // 2
    last = min(first + distance, length - 1)
    low, high = (int(span.low[end]) + int(span.high[end]) for end in (first, last))
    return (high - low) / 2 / max(last - first, 1)


class Trace(TorchDispatchMode):
    """While it is active, follows what depends on the tensors given to `start`."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = 0
        self._reaches: Any = WeakTensorKeyDictionary()  # tensor -> when it was made or written, what it sees
        self._written: dict[int, tuple[int, Tensor, Reach]] = {}  # the same of the last write to a storage

    def start(self, image: Tensor) -> None:
        """Each voxel of `image` `(B, C, *spatial)` sees itself."""
        positions = [np.arange(n) for n in image.shape[2:]]
        self._reaches[image] = self._clock, Reach(tuple(Span(axis + 2, n, n) for axis, n in enumerate(positions)))

    def reach(self, tensor: Tensor) -> Reach | None:
        """What the tensor sees; None if it does not depend on the image."""
        when, own = self._reaches.get(tensor, (-1, None))
        if not self._written:
            return own
        written, target, other = self._written.get(tensor.untyped_storage()._cdata, (-1, tensor, None))
        if other is None or written <= when:
            return own
        # Written since through another view of the same memory.
        if own is None and target.shape == tensor.shape:
            return other
        return Reach((), other.whole | {MIXING} | (own.whole if own else frozenset()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        reaches = tuple((tensor, reach) for tensor in tensors if (reach := self.reach(tensor)))
        output = func(*args, **kwargs)
        self._clock += 1
        if reaches and any(isinstance(leaf, Tensor) for leaf in tree_leaves(output)):
            schema = func._schema.arguments
            arguments = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
            arguments |= {argument.name: value for argument, value in zip(schema, args, strict=False)} | kwargs
            # upsample_bilinear2d, upsample_trilinear3d -> upsample_linear; relu_ -> relu
            name = re.sub(r"[123]d|(?<=_)(bi|tri)(?=linear)", "", func.overloadpacket.__name__).strip("_")
            pointwise = name in POINTWISE or torch.Tag.pointwise in func.tags
            rule = RULES.get(name, joined if pointwise else unknown)
            for result, reach in rule(Call(name, arguments, output, reaches)):
                self._reaches[result] = self._clock, reach
                if func._schema.is_mutable:
                    self._written[result.untyped_storage()._cdata] = self._clock, result, reach
        return output


def effective_field(
    network: nn.Module, image: Tensor, *, seeds: int = 3, share: float = 0.95
) -> tuple[int, ...] | None:
    """Extent along each axis, in voxels, of what matters to the voxel in the middle; None if nothing does.

    The energy of a voxel is the square of the gradient of that voxel's logits (summed over classes) to it, summed over
    channels and over `seeds` images of noise. Along each axis it is the shortest stretch centred on the middle voxel
    that holds `share` of the energy; the border may cut it. In evaluation mode.

    Args:
        image: `(1, C, *spatial)`, of which shape, type, device and memory format count.
    """
    network.eval()
    energy = torch.zeros(image.shape[2:], dtype=torch.float64)
    middle = tuple(n // 2 for n in image.shape[2:])
    for seed in range(seeds):
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
        noise = torch.empty_like(image).copy_(noise).requires_grad_()
        (gradient,) = torch.autograd.grad(network(noise)[(0, slice(None), *middle)].sum(), noise)
        energy += gradient[0].double().square().sum(0).cpu()
    if not energy.sum() > 0:
        return None
    axes = range(energy.ndim)
    return tuple(
        _stretch(energy.sum([other for other in axes if other != axis]).numpy(), middle[axis], share) for axis in axes
    )


def _stretch(profile: np.ndarray, middle: int, share: float) -> int:
    """Length of the shortest stretch around `middle` with that share of the profile's sum."""
    wanted = share * profile.sum()
    for half in range(len(profile)):
        part = profile[max(middle - half, 0) : middle + half + 1]
        if part.sum() >= wanted:
            return len(part)
    return len(profile)
