"""A GPU that is not there: tensors say that they are on `cuda:0`, are computed on the CPU, and refuse to be mixed.

    with pretended_gpu() as gpu:
        train(config, run=folder)
    assert not gpu.refused

A function mode answers for what PyTorch decides before an operator runs (`x.device`, `x.cpu()`, `device=` of a factory,
`x.numpy()`); a dispatch mode sees every operator, those of the backward pass too, refuses what CUDA refuses
(`device_rules`) and marks the memory of what comes out.

What it cannot see: gradients that cross from one device to the other (they stay where they are), kernels that only one
device has, and a GPU's rounding. `torch.compile` is not for it.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import medseg
from tests.device_rules import CPU, GPU, common_device, device_of, memory, named, on_gpu, put, tensors_in

PACKAGE = Path(medseg.__file__).parent
TO_NUMPY = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."


class WrongDeviceError(RuntimeError):
    """CUDA would refuse this."""


@dataclass
class Pretence:
    """What happened on the pretended GPU.

    Attributes:
        forgotten: a place of `moves` at which nothing moves: the fault that somebody makes who forgets it there.
        moves: how often each place in medseg ("engine/device.py:141 to_device") brought a tensor to another device, or
            made one on the GPU.
        computed: how often each operator was computed on the GPU.
        refused: each refusal, and where in medseg; also of those that somebody caught.
    """

    forgotten: str | None = None
    moves: Counter[str] = field(default_factory=Counter)
    computed: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)

    def moved(self, result: Any, device: torch.device, before: torch.device = CPU) -> Any:
        """The result on the device, but where that is forgotten."""
        if device != before and (place := _place()):
            self.moves[place] += 1
            device = before if place == self.forgotten else device
        return put(result, device)

    def refuse(self, what: str, kind: type[Exception] = WrongDeviceError) -> Exception:
        self.refused.append(f"{_place()}: {what}")
        return kind(what)


def _place() -> str | None:
    """The innermost line of medseg that is being run."""
    frame: Any = sys._getframe()
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE):
            return f"{file.relative_to(PACKAGE).as_posix()}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return None


class _Operators(TorchDispatchMode):
    """Every operator: refused, or computed, and its result marked."""

    def __init__(self, pretence: Pretence, calls: list[bool]) -> None:
        super().__init__()
        self.pretence, self.calls = pretence, calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            if torch.is_inference_mode_enabled():  # which hands over what elsewhere arrives in parts
                with self:
                    result = func.decompose(*args, **kwargs)
                if result is not NotImplemented:
                    return result
            given = tensors_in((args, kwargs))
            # What an operator makes of nothing lies where the tensors lie that its function was called with.
            device = GPU if self.calls[-1] else CPU
            if given:
                device = common_device(func, args, kwargs, self.pretence.refuse)
            self.pretence.computed[func.overloadpacket.__name__] += device == GPU
            known, same = set(map(memory, given)), set(map(id, given))  # `set_` gives a tensor another memory
            result = func(*args, **kwargs)
            put([one for one in tensors_in(result) if memory(one) not in known and id(one) not in same], device)
            return result


class _Functions(TorchFunctionMode):
    """Every function and attribute of PyTorch that says, takes or changes a device.

    Args:
        calls: whether each of the functions that are being called was given a tensor on the GPU, the innermost last.
    """

    def __init__(self, pretence: Pretence, calls: list[bool]) -> None:
        super().__init__()
        self.pretence, self.calls = pretence, calls
        getters: dict[Any, Callable[..., Any]] = {
            Tensor.device: device_of,
            Tensor.is_cuda: on_gpu,
            Tensor.is_cpu: lambda x: not on_gpu(x),
        }
        self.special: dict[Any, Callable[..., Any]] = {
            **{attribute.__get__: answer for attribute, answer in getters.items()},
            Tensor.get_device: lambda x: 0 if on_gpu(x) else -1,
            Tensor.to: self._to,
            Tensor.cpu: lambda x, **options: self._moved(x, CPU, **options),
            Tensor.cuda: lambda x, device=0, *flags, **options: self._to(x, device, *flags, **options),
            Tensor.type_as: lambda x, other: self._to(x, other),
            Tensor.new_tensor: lambda x, data, **options: self._tensor(data, **{"device": device_of(x), **options}),
            Tensor.__deepcopy__: lambda x, memo: put(Tensor.__deepcopy__(x, memo), device_of(x)),
            Tensor.pin_memory: self._pinned,
            Tensor.numpy: self._on_host(Tensor.numpy),
            Tensor.__array__: self._on_host(Tensor.__array__),
            Tensor.backward: lambda x, gradient=None, *args, **options: self._backward(x, gradient, *args, **options),
            torch.autograd.backward: self._backward,
            torch.as_tensor: self._as_tensor,
            torch.asarray: self._as_tensor,
            torch.tensor: self._tensor,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        special = self.special.get(func)
        if special is None and getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        given = tensors_in((args, kwargs))
        self.calls.append(any(map(on_gpu, given)))
        try:
            if special is not None:
                return special(*args, **kwargs)
            asked = kwargs.pop("device", None)
            device = named(asked) if asked is not None else device_of(given[0]) if given else CPU
            generator = kwargs.get("generator")
            if generator is not None and named(getattr(generator, "pretends", CPU)) != device:
                raise self.pretence.refuse(f"Expected a '{device.type}' device type for generator")
            result = func(*args, **kwargs)
            return result if asked is None else self.pretence.moved(result, device)
        finally:
            self.calls.pop()

    def _moved(
        self, tensor: Tensor, device: torch.device, *, dtype: Any = None, copy: bool = False, **options: Any
    ) -> Tensor:
        """`tensor.to(device, ...)`: itself where nothing changes."""
        options.pop("non_blocking", None)
        before = device_of(tensor)
        dtype = tensor.dtype if dtype is None else dtype
        result = Tensor.to(tensor, dtype, copy=copy or before != device, **options)
        return result if before == device else self.pretence.moved(result, device, before)

    def _to(self, tensor: Tensor, *args: Any, device: Any = None, dtype: Any = None, **options: Any) -> Tensor:
        """`Tensor.to` of a device and a type, of a type, and of another tensor; non_blocking and copy come after."""
        for arg in (options.pop("other", None), *args):
            if isinstance(arg, Tensor):
                device, dtype = device_of(arg), arg.dtype
            elif isinstance(arg, torch.dtype):
                dtype = arg
            elif arg is not None and not isinstance(arg, bool):
                device = arg
        if [arg for arg in args if isinstance(arg, bool)][1:] == [True]:
            options["copy"] = True
        return self._moved(tensor, device_of(tensor) if device is None else named(device), dtype=dtype, **options)

    def _as_tensor(self, data: Any, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
        if isinstance(data, Tensor):
            return self._to(data, device=device, dtype=dtype, **options)
        result = torch.as_tensor(data, dtype=dtype, **options)
        return result if device is None or named(device) == CPU else self.pretence.moved(result.clone(), GPU)

    def _tensor(self, data: Any, *, device: Any = None, **options: Any) -> Tensor:
        before = device_of(data) if isinstance(data, Tensor) else CPU
        where = before if device is None else named(device)
        return self.pretence.moved(torch.tensor(data, **options), where, before)

    def _backward(self, tensors: Any, gradients: Any = None, *args: Any, **options: Any) -> None:
        engine = torch.autograd._engine_run_backward

        def engine_with_devices(*given: Any, **named: Any) -> Any:
            with self:  # for what a backward pass calls in Python
                return engine(*given, **named)

        with mock.patch.object(torch.autograd, "_engine_run_backward", engine_with_devices):
            torch.autograd.backward(tensors, gradients, *args, **options)

    def _on_host(self, convert: Callable[..., Any]) -> Callable[..., Any]:
        def converted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if on_gpu(tensor):
                raise self.pretence.refuse(TO_NUMPY, TypeError)
            return convert(tensor, *args, **kwargs)

        return converted

    def _pinned(self, tensor: Tensor, *_: Any) -> Tensor:
        if on_gpu(tensor):
            raise self.pretence.refuse("only dense CPU tensors can be pinned", RuntimeError)
        return tensor.clone()


@contextmanager
def _modes(pretence: Pretence) -> Iterator[None]:
    """Modes belong to a thread."""
    calls = [False]
    with _Operators(pretence, calls), _Functions(pretence, calls):
        yield


class _Generator(torch.Generator):
    """A generator of the CPU that says on which device it is."""

    def __new__(cls, device: Any = CPU) -> _Generator:
        made = super().__new__(cls, CPU)
        made.pretends = named(device)
        return made


@contextmanager
def pretended_gpu(*, bfloat16: bool = True, forgotten: str | None = None) -> Iterator[Pretence]:
    """A machine with one GPU, `cuda:0`, for all that is done inside it, in threads that start inside it too.

    Args:
        bfloat16: whether that GPU computes in it; else `auto` is float16 with loss scaling.
        forgotten: a place at which nothing is moved, see `Pretence`.
    """
    pretence = Pretence(forgotten)
    of_cuda: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "set_device": None,
        "synchronize": None,
        "is_bf16_supported": bfloat16,
        "get_device_properties": SimpleNamespace(name="pretended", total_memory=8 * 2**30),
        "get_device_capability": (9, 0),
        "is_current_stream_capturing": False,
        "reset_peak_memory_stats": None,
    }
    of_accelerators: dict[str, Any] = {
        "is_available": True,
        "current_accelerator": GPU,
        "current_device_index": 0,
        "current_stream": SimpleNamespace(is_capturing=lambda: False),
    }
    answers = [(torch.cuda, *one) for one in of_cuda.items()]
    answers += [(torch.accelerator, *one) for one in of_accelerators.items()]
    with ExitStack() as stack:
        for module, function, answer in answers:
            stack.enter_context(mock.patch.object(module, function, lambda *_, answer=answer, **__: answer))
        for place, attribute, ours in _instead(pretence):
            stack.enter_context(mock.patch.object(place, attribute, ours))
        stack.enter_context(_modes(pretence))
        yield pretence


def _instead(pretence: Pretence) -> list[tuple[Any, str, Any]]:
    """What no mode sees: (owner, attribute, what stands in its place)."""
    autocast, grouped, run = torch.autocast.__init__, torch._C._group_tensors_by_device_and_dtype, threading.Thread.run

    def autocast_of_the_cpu(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        autocast(self, "cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    def grouped_by_device(tensors: Any, *args: Any) -> Any:  # for the foreach kernels
        groups = grouped(tensors, *args).items()
        return {(device_of(lists[0][0]), kind): (lists, places) for (_, kind), (lists, places) in groups}

    def run_with_modes(thread: threading.Thread) -> None:
        with _modes(pretence):
            run(thread)

    def location(memory: Any) -> str | None:  # in a file of tensors
        return str(GPU) if getattr(memory, "pretended", False) else None

    def located(memory: Any, location: str) -> Any:
        memory.pretended = location.startswith("cuda")
        return memory if memory.pretended else None

    return [
        (torch.autocast, "__init__", autocast_of_the_cpu),
        (torch._C, "_group_tensors_by_device_and_dtype", grouped_by_device),
        (threading.Thread, "run", run_with_modes),
        (torch, "Generator", _Generator),
        (torch.serialization, "_package_registry", [(0, location, located), *torch.serialization._package_registry]),
    ]
