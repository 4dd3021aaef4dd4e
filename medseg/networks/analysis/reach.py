"""What each position of a map sees of the image: how each operator moves intervals along the axes of the image.

A convolution joins the intervals under its taps, an up-sampling those of the neighbours, a sum those of its terms. So
strides, dilation, padding, cropping, rounding and branches need no formula for a whole network, and what is at the
border is exact too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from medseg.networks.analysis import NORM

NOTHING = 2**60  # the low end of an interval that holds nothing
POOLING, GRID, MIXING = "global pooling", "pooling to a grid", "attention or reshaping"


@dataclass(frozen=True, eq=False)
class Span:
    """Along one axis of the image, position i of the tensor's axis `dim` sees `low[i]` to `high[i]`, both included."""

    dim: int
    low: np.ndarray  # (n,)
    high: np.ndarray

    def taken(self, index: np.ndarray, valid: np.ndarray | bool = True) -> Span:
        """Each new position sees what the old ones `index` `(n, taps)` see, as far as they are `valid`."""
        inside = valid & (index >= 0) & (index < len(self.low))
        index = np.clip(index, 0, len(self.low) - 1)
        low = np.where(inside, self.low[index], NOTHING).min(axis=1)
        return replace(self, low=low, high=np.where(inside, self.high[index], -1).max(axis=1))


@dataclass(frozen=True, eq=False)
class Reach:
    """What a tensor sees: `spans` through what keeps positions apart, one an axis of the image, or none of that;
    `whole`: through what joins all positions, the names of these steps."""

    spans: tuple[Span, ...]
    whole: frozenset[str] = frozenset()

    def lost(self, cause: str) -> Reach:
        """The positions are no longer told apart."""
        return Reach((), self.whole | {cause}) if self.spans else self

    def mapped(self, change: Callable[[Span], Span]) -> Reach:
        return replace(self, spans=tuple(map(change, self.spans)))


@dataclass(frozen=True)
class Call:
    """One operator at work: its arguments by name, its result, and what its tensors see."""

    name: str
    arguments: dict[str, Any]
    output: Any
    reaches: tuple[tuple[Tensor, Reach], ...]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]


def joined(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    """Every position of the result sees what that position of the arguments sees; smaller arguments are broadcast."""
    output: Tensor = call.output[0] if isinstance(call.output, tuple | list) else call.output
    spans: tuple[Span, ...] = ()
    whole = frozenset[str]()
    for tensor, reach in call.reaches:
        whole |= reach.whole
        moved = [replace(span, dim=span.dim + output.ndim - tensor.ndim) for span in reach.spans]
        if spans and moved and [span.dim for span in spans] != [span.dim for span in moved]:
            return [(output, Reach((), whole | {MIXING}))]
        pairs = zip(spans or moved, moved or spans, strict=True)
        spans = tuple(Span(a.dim, np.minimum(a.low, b.low), np.maximum(a.high, b.high)) for a, b in pairs)
    lengths = [output.shape[span.dim] for span in spans]
    full = [
        Span(span.dim, np.broadcast_to(span.low, n), np.broadcast_to(span.high, n))
        for span, n in zip(spans, lengths, strict=True)
    ]
    return [(output, Reach(tuple(full), whole))]


def unknown(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    """An operator without a rule may mix all positions."""
    whole = frozenset[str]().union(*(reach.lost(MIXING).whole for _, reach in call.reaches))
    return [(leaf, Reach((), whole)) for leaf in tree_leaves(call.output) if isinstance(leaf, Tensor)]


def _at(values: Any, axis: int, default: int = 1) -> int:
    """The number of that axis in an operator's argument, which may be one for all, or left out."""
    values = [values] if isinstance(values, int) else list(values)
    return int(values[axis] if len(values) > 1 else values[0] if values else default)


def _windows(call: Call, kernel: Sequence[int], transposed: bool = False) -> Iterable[tuple[Tensor, Reach]]:
    """Convolution, pooling, and transposed convolution: taps at `i * stride - padding + k * dilation`."""
    output: Tensor = call.output[0] if isinstance(call.output, tuple) else call.output
    arguments = call.arguments

    def change(axis: int, span: Span) -> Span:
        size = _at(kernel, axis)
        stride = _at(arguments["stride"], axis, size)
        padding, dilation = _at(arguments["padding"], axis), _at(arguments.get("dilation", 1), axis)
        taps = np.arange(size) * dilation - padding
        positions = np.arange(output.shape[span.dim])[:, None]
        if not transposed:
            return span.taken(positions * stride + taps)
        sources, rest = np.divmod(positions - taps, stride)
        return span.taken(sources, rest == 0)

    return [(output, _moved(call, change))]


def _moved(call: Call, change: Callable[[int, Span], Span]) -> Reach:
    """The reach of the one argument that has one, changed along the spatial axes (0, 1, ...) of its tensor."""
    reach = call.reaches[0][1]
    if len(call.reaches) > 1 or any(span.dim < 2 for span in reach.spans):
        return reach.lost(MIXING)
    return replace(reach, spans=tuple(change(span.dim - 2, span) for span in reach.spans))


def _convolution(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    return _windows(call, call["weight"].shape[2:], call["transposed"])


def _pooling(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    return _windows(call, call["kernel_size"])


def _linear(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    """The two neighbours of a source coordinate, one where it lies on a voxel; exact, since in whole numbers."""

    def change(axis: int, span: Span) -> Span:
        old, new = len(span.low), call.output.shape[span.dim]
        positions = np.arange(new)
        if call["align_corners"]:
            ratio = Fraction(old - 1, max(new - 1, 1))
            lower, rest = np.divmod(positions * ratio.numerator, ratio.denominator)
        else:
            ratio = _ratio(call, axis, old, new)
            source = (2 * positions + 1) * ratio.numerator - ratio.denominator
            lower, rest = np.divmod(np.maximum(source, 0), 2 * ratio.denominator)
        upper = np.minimum(lower + (rest > 0), old - 1)
        return span.taken(np.stack([np.minimum(lower, old - 1), upper], axis=1))

    return [(call.output, _moved(call, change))]


def _nearest(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    half = 1 if "exact" in call.name else 0

    def change(axis: int, span: Span) -> Span:
        old, new = len(span.low), call.output.shape[span.dim]
        ratio = _ratio(call, axis, old, new)
        source = (2 * np.arange(new) + half) * ratio.numerator // (2 * ratio.denominator)
        return span.taken(np.minimum(source, old - 1)[:, None])

    return [(call.output, _moved(call, change))]


def _ratio(call: Call, axis: int, old: int, new: int) -> Fraction:
    """Voxels of the source to one of the result: by the factor that was given, else by the sizes."""
    scales = [value for key, value in call.arguments.items() if key.startswith("scales")]
    given = scales[axis] if scales else None
    return Fraction(old, new) if given is None else 1 / Fraction(given).limit_denominator(10**6)


def _grid(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    ((_, reach),) = call.reaches
    cells = [call.output.shape[span.dim] for span in reach.spans]
    return [(call.output, reach.lost(POOLING if set(cells) == {1} else GRID))]


def _reduced(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    """Sum, mean, maximum over some axes of the tensor."""
    ((source, reach),) = call.reaches
    dims = call.arguments.get("dim")
    dims = list(range(source.ndim)) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    gone = {dim % source.ndim for dim in dims}
    output: Tensor = call.output[0] if isinstance(call.output, tuple) else call.output
    if any(span.dim in gone for span in reach.spans):
        return [(output, reach.lost(POOLING))]
    shift = output.ndim != source.ndim
    return [(output, reach.mapped(lambda s: replace(s, dim=s.dim - shift * sum(dim < s.dim for dim in gone))))]


def _softmax(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    ((source, reach),) = call.reaches
    across = any(span.dim == call["dim"] % source.ndim for span in reach.spans)
    return [(call.output, reach.lost(MIXING) if across else reach)]


def _normalised(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    """Batch norm with the statistics of the batch, which is how instance norm is computed, and group norm."""
    measured = call.arguments.get("training", call.name != "native_batch_norm_legit_no_training")
    return _with_statistics(call, measured)


def _measured(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    return [(part, reach.lost(NORM)) for _, reach in call.reaches for part in call.output]


def _layer_normalised(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    first = call["input"].ndim - len(call["normalized_shape"])
    return _with_statistics(call, any(span.dim >= first for _, reach in call.reaches for span in reach.spans))


def _with_statistics(call: Call, measured: bool) -> Iterable[tuple[Tensor, Reach]]:
    ((output, reach),) = joined(call)
    return [(output, replace(reach, whole=reach.whole | {NORM}) if measured and reach.spans else reach)]


def _viewed(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    """An axis survives where the result has one as long, with as many elements in the axes before it."""
    ((source, reach),) = call.reaches
    old, new = source.shape, call.output.shape
    places: dict[int, int] = {}
    for span in reach.spans:
        before, length = prod(old[: span.dim]), old[span.dim]
        same = [dim for dim, n in enumerate(new) if n == length and prod(new[:dim]) == before]
        if not same:
            return [(call.output, reach.lost(MIXING))]
        # Only axes of one voxel leave a choice: as far from the last axis as it was.
        places[span.dim] = min(same, key=lambda dim: abs((len(new) - dim) - (len(old) - span.dim)))
    return [(call.output, reach.mapped(lambda span: replace(span, dim=places[span.dim])))]


def _permuted(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    ((source, reach),) = call.reaches
    order = list(range(source.ndim))
    if call.name == "permute":
        order = [dim % source.ndim for dim in call["dims"]]
    else:
        a, b = (0, 1) if call.name == "t" else (call["dim0"], call["dim1"])
        order[a], order[b] = order[b], order[a]
    return [(call.output, reach.mapped(lambda span: replace(span, dim=order.index(span.dim))))]


def _sliced(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    ((source, reach),) = call.reaches
    part = slice(call["start"], call["end"], call["step"])

    def change(span: Span) -> Span:
        same = span.dim != call["dim"] % source.ndim
        return span if same else replace(span, low=span.low[part], high=span.high[part])

    return [(call.output, reach.mapped(change))]


def _split(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    ((source, reach),) = call.reaches
    across = any(span.dim == call["dim"] % source.ndim for span in reach.spans)
    return [(part, reach.lost(MIXING) if across else reach) for part in call.output]


def _padded(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    ((source, reach),) = call.reaches

    def change(span: Span) -> Span:
        place = 2 * (source.ndim - 1 - span.dim)  # the axes are counted from the last
        before = call["pad"][place] if place < len(call["pad"]) else 0
        return span.taken(np.arange(call.output.shape[span.dim])[:, None] - before)

    return [(call.output, reach.mapped(change))]


def _concatenated(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    dim = call["dim"] % call.output.ndim
    if any(span.dim == dim for _, reach in call.reaches for span in reach.spans):
        return unknown(call)
    return joined(call)


def _copied(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    """What was there before is gone."""
    sources = tuple((tensor, reach) for tensor, reach in call.reaches if tensor is call["src"])
    return joined(replace(call, reaches=sources))


def _new(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    """Of the argument only the shape is taken."""
    return []


def _repeated_at_the_border(call: Call) -> Iterable[tuple[Tensor, Reach]]:
    def change(axis: int, span: Span) -> Span:
        before = call["padding"][2 * (call.output.ndim - 3 - axis)]  # the axes are counted from the last
        index = np.arange(call.output.shape[span.dim]) - before
        return span.taken(np.clip(index, 0, len(span.low) - 1)[:, None])

    return [(call.output, _moved(call, change))]


POINTWISE = {"to_copy", "native_dropout", "prelu_kernel", "detach", "alias", "expand", "lift_fresh"}
RULES: dict[str, Callable[[Call], Iterable[tuple[Tensor, Reach]]]] = {
    "convolution": _convolution,
    "max_pool_with_indices": _pooling,
    "avg_pool": _pooling,
    "upsample_linear": _linear,
    "upsample_nearest": _nearest,
    "upsample_nearest_exact": _nearest,
    "adaptive_avg_pool": _grid,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "var", "std"), _reduced),
    "softmax": _softmax,
    **dict.fromkeys(("native_batch_norm", "cudnn_batch_norm", "native_batch_norm_legit"), _normalised),
    **dict.fromkeys(("native_batch_norm_legit_no_training", "native_group_norm"), _normalised),
    "batch_norm_update_stats": _measured,
    "native_layer_norm": _layer_normalised,
    **dict.fromkeys(("view", "unsafe_view", "reshape_alias", "unsqueeze", "squeeze"), _viewed),
    **dict.fromkeys(("permute", "transpose", "t"), _permuted),
    "slice": _sliced,
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    "constant_pad_nd": _padded,
    "replication_pad": _repeated_at_the_border,
    "copy": _copied,
    **dict.fromkeys(("empty_like", "zeros_like", "ones_like", "full_like"), _new),
    **dict.fromkeys(("new_empty", "new_zeros", "new_ones", "new_full"), _new),
    "cat": _concatenated,
}
