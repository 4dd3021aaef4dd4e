"""A network of which only the shapes are computed, so that its size does not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
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
        pretended = cls(network, mode)
        pretended._replace(mode.from_tensor)
        return pretended

    def lay_out(self, memory_format: torch.memory_format) -> None:
        """What `module.to(memory_format=...)` does, which such tensors do not allow."""
        dims = {torch.channels_last: 4, torch.channels_last_3d: 5}[memory_format]
        with self.mode:
            self._replace(lambda old: old.contiguous(memory_format=memory_format) if old.ndim == dims else old)

    def _replace(self, change: Callable[[Tensor], Tensor]) -> None:
        """Every parameter and buffer by another; one that several modules share stays one."""
        changed: dict[int, Tensor] = {}
        old = [*self.module.parameters(), *self.module.buffers()]  # alive, so that their addresses name them
        for tensor in old:
            new = change(tensor.detach())
            changed[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
        for module in self.module.modules():
            for tensors in (module._parameters, module._buffers):
                for name, known in tensors.items():
                    if known is not None:
                        tensors[name] = changed[id(known)]  # type: ignore[assignment]
