"""A network of which only the shapes are computed, so that its size does not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode


@dataclass(frozen=True)
class Pretended:
    """A network of tensors without memory; inputs made inside `mode` run through it, in no time.

    Attributes:
        module: the network, on a (pretended) CPU.
        mode: the context in which tensors have shapes only.
    """

    module: nn.Module
    mode: FakeTensorMode

    @classmethod
    def built(cls, build: Callable[[], nn.Module]) -> Pretended:
        """What `build` returns, without the memory and the time that real weights would take."""
        mode = FakeTensorMode()
        try:
            with mode:
                return cls(build(), mode)
        except DataDependentOutputException:  # its constructor reads values, as that of SwinUNETR
            network = build()
        for module in network.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(mode.from_tensor(parameter.detach()))
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = mode.from_tensor(buffer)
        return cls(network, mode)
