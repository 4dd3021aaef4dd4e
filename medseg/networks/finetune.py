"""Weights of a trained network for another of its kind, which sees other channels or predicts other targets.

Which tensors depend on the channels is not asked of a network: it is built, without memory, with one channel more, and
what then has another shape does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg.networks.analysis.pretended import Pretended

Axes = Mapping[str, tuple[int, ...]]
Build = Callable[[int, int], nn.Module]
"""(input channels, output channels) -> the network."""
SHOWN = 6


@dataclass(frozen=True)
class Ends:
    """What the channels of a network's input and output are called; names are told apart whatever their case.

    Args:
        network: how one is built with other numbers of them.
    """

    network: Build
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def axes(self) -> tuple[Axes, Axes]:
        """Tensor -> its axes along which the input channels lie, and those of the output channels."""
        own, inputs, outputs = self._shapes(0, 0), [], []
        for more in (1, 2):  # a shortcut is no convolution where its input happens to have as many channels
            inputs.append(self._shapes(more, 0))
            outputs.append(self._shapes(0, more))
        return _changed(own, inputs), _changed(own, outputs)

    def _shapes(self, inner: int, outer: int) -> dict[str, tuple[int, ...]]:
        """Of every tensor, with so many more channels."""
        numbers = (len(self.inputs) + inner, len(self.outputs) + outer)
        state = Pretended.built(lambda: self.network(*numbers)).module.state_dict()
        return {name: tuple(value.shape) for name, value in state.items()}


@dataclass(frozen=True)
class Carried:
    """What of a trained network's weights the other one begins with.

    Attributes:
        tensors: by name, as the other network has them.
        adapted: those that were changed, each with what was done.
        fresh: what the other one has and keeps its initial values in.
        left_out: what only the trained one has.
        problems: why the two are not of a kind: what has another shape, or only one of them has.
    """

    tensors: Mapping[str, Tensor]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    left_out: tuple[str, ...]
    problems: tuple[str, ...]

    def __str__(self) -> str:
        """In a few lines."""
        lines = [f"{len(self.tensors) - len(self.adapted)} tensors as they are"]
        named = {"adapted": self.adapted, "with initial values": self.fresh, "left out": self.left_out}
        for title, names in named.items():
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                lines.append(f"  {len(names)} {title}: {', '.join(names[:SHOWN])}{more}")
        return "\n".join(lines)


def carried_over(weights: Mapping[str, Tensor], old: Ends, new: Ends, network: nn.Module) -> Carried:
    """The weights of a trained network for `network`, whose ends are `new`.

    An input channel takes the weights of the one of its name. One that is new begins at 0, so that the network predicts
    at first what the old one did; but where none has a name of the old ones, all take their mean, times old channels
    per new one: so equal channels give what they gave. An output takes the weights of the one of its name, and a new
    one its initial values. A part of the network that only one of the two has (a second head) is no difference in kind.

    Args:
        weights: the state dict of the trained network.
        network: with its initial weights, which are left alone.
    """
    wanted = network.state_dict()
    (of_input, of_output), (_, old_outputs) = new.axes(), old.axes()
    parts = [{name.partition(".")[0] for name in names} for names in (wanted, weights)]
    alone = parts[0] ^ parts[1]
    taken: dict[str, Tensor] = {}
    adapted, fresh, problems = [], [], []
    for name, target in wanted.items():
        value = weights.get(name)
        if value is None and (name in of_output or name.partition(".")[0] in alone):
            fresh.append(name)
            continue
        if value is None:
            problems.append(f"{name} {_text(target)} is new")
            continue
        fitted, notes = value, []
        for axis in of_input.get(name, ()):
            if value.ndim == target.ndim and value.shape[axis] == len(old.inputs):
                fitted = _inputs(fitted, axis, old.inputs, new.inputs)
                notes.append("input channels")
        axes = [a for a in of_output.get(name, ()) if value.ndim == target.ndim and value.shape[a] == len(old.outputs)]
        if axes:
            known = _outputs(fitted, axes, old.outputs, new.outputs, target)
            if known is None:
                fresh.append(name)
                continue
            fitted = known
            notes.append("targets")
        if fitted.shape == target.shape:
            taken[name] = fitted.to(target.dtype)
            if fitted.shape != value.shape or not torch.equal(fitted, value):
                adapted.append(f"{name} ({', '.join(notes)})")
        elif name in of_output or name in of_input:
            fresh.append(name)
        else:
            problems.append(f"{name} is {_text(value)} there and {_text(target)} here")
    only = [name for name in weights if name not in wanted]
    left_out = [name for name in only if name in old_outputs or name.partition(".")[0] in alone]
    problems += [f"{name} {_text(weights[name])} is gone" for name in only if name not in left_out]
    return Carried(taken, tuple(adapted), tuple(fresh), tuple(left_out), tuple(problems))


def _inputs(value: Tensor, axis: int, old: Sequence[str], new: Sequence[str]) -> Tensor:
    places = _places(old, new)
    if not any(place is not None for place in places):
        mean = value.mean(axis, keepdim=True) * (len(old) / len(new))
        return mean.repeat_interleave(len(new), axis)
    nothing = torch.zeros_like(value.select(axis, 0))
    return torch.stack([nothing if place is None else value.select(axis, place) for place in places], axis)


def _outputs(
    value: Tensor, axes: Sequence[int], old: Sequence[str], new: Sequence[str], initial: Tensor
) -> Tensor | None:
    """`initial`, with what outputs of the same name had; None where there are none."""
    pairs = [(here, there) for here, there in enumerate(_places(old, new)) if there is not None]
    others = [axis for axis in range(value.ndim) if axis not in axes]
    if not pairs or any(value.shape[axis] != initial.shape[axis] for axis in others):
        return None
    result = initial.clone()
    result[_grid(result, axes, [here for here, _ in pairs])] = value[_grid(value, axes, [there for _, there in pairs])]
    return result


def _grid(tensor: Tensor, axes: Sequence[int], chosen: Sequence[int]) -> tuple[Tensor, ...]:
    """Indices of the chosen places along these axes, and of all along the others."""
    along = [torch.tensor(chosen) if axis in axes else torch.arange(size) for axis, size in enumerate(tensor.shape)]
    return torch.meshgrid(*along, indexing="ij")


def _places(old: Sequence[str], new: Sequence[str]) -> list[int | None]:
    """Where each new name stands among the old ones."""
    known = {name.casefold(): place for place, name in enumerate(old)}
    return [known.get(name.casefold()) for name in new]


def _changed(own: Mapping[str, tuple[int, ...]], others: Sequence[Mapping[str, tuple[int, ...]]]) -> Axes:
    """Tensor -> the axes along which it has another size in one of the others."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in own.items():
        alike = [other[name] for other in others if len(other.get(name, ())) == len(shape)]
        if axes := tuple(axis for axis, size in enumerate(shape) if any(one[axis] != size for one in alike)):
            found[name] = axes
    return found


def _text(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"
