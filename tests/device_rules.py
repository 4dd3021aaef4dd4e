"""On which device a tensor pretends to be, and what CUDA computes of tensors on several (see `pretended_device`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

GPU, CPU = torch.device("cuda:0"), torch.device("cpu")
aten = torch.ops.aten

COPIES = {aten.copy_, aten._foreach_copy_}
"""Between any two devices."""
SHAPES = {aten.view_as, aten.expand_as, aten.reshape_as}
"""Of the second tensor they take the shape only."""
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
"""A tensor on a GPU takes indices on the CPU too."""
NUMBERS = {aten.fill, aten.fill_, aten.masked_fill, aten.masked_fill_}
"""Their value may be a tensor without axes on any device."""

MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
INDICES = "indices should be either on cpu or on the same device as the indexed tensor (cpu)"

Refuse = Callable[[str], Exception]


def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor is on the pretended GPU: a mark on its memory, which views, parameters and subclasses share."""
    with torch._C.DisableTorchFunction():
        return tensor.layout is torch.strided and getattr(tensor.untyped_storage(), "pretended", False)


def device_of(tensor: Tensor) -> torch.device:
    return GPU if on_gpu(tensor) else CPU


def named(device: Any) -> torch.device:
    """A device by its name, its number or itself: there is one GPU only."""
    return GPU if isinstance(device, int) or torch.device(device).type == "cuda" else CPU


def put(result: Any, device: torch.device) -> Any:
    """The result, the memory of its tensors declared to be on the device."""
    with torch._C.DisableTorchFunction():
        for tensor in tensors_in(result):
            if tensor.layout is torch.strided:
                tensor.untyped_storage().pretended = device == GPU  # type: ignore[attr-defined]
    return result


def memory(tensor: Tensor) -> int | None:
    """What two tensors have in common of which one is a view of the other."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else None


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def common_device(func: Any, args: Sequence[Any], kwargs: dict[str, Any], refuse: Refuse) -> torch.device:
    """Where CUDA computes an operator of these arguments; raises what `refuse` makes of its message where it can not.

    All on one device, except that a tensor without axes on the CPU is a number to what computes element by element, and
    what the sets above name. PyTorch's own model of this, of `FakeTensor`, takes every such tensor for a number.
    """
    packet, tensors = func.overloadpacket, tensors_in((args, kwargs))
    if packet in COPIES | SHAPES:
        return device_of(tensors[0])
    if packet in INDEXED:
        own, indices, values = args[0], tensors_in(args[1]), tensors_in((args[2:], kwargs))
        if not on_gpu(own) and any(map(on_gpu, indices)):
            raise refuse(f"{INDICES} ({func})")
        tensors = [own, *(value for value in values if value.ndim)]
    elif packet in NUMBERS:
        tensors = [tensor for number, tensor in enumerate(tensors) if tensor.ndim or number == 0]
    elif torch.Tag.pointwise in func.tags or packet.__name__.startswith("_foreach"):
        written = {id(tensor) for tensor in _written(func, args, kwargs)}
        tensors = [one for one in tensors if one.ndim or on_gpu(one) or id(one) in written]
    devices = set(map(device_of, tensors))
    if len(devices) > 1:
        raise refuse(f"{MIXED} ({func})")
    return devices.pop() if devices else CPU


def _written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterable[Tensor]:
    """The arguments that an operator writes into."""
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    writes = [one.name for one in func._schema.arguments if one.alias_info is not None and one.alias_info.is_write]
    return tensors_in([given.get(name) for name in writes])
