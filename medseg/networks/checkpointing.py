"""Activation checkpointing that counts every batch once in the running statistics of batch norm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)`, of which the backward pass computes the activations anew instead of finding them in memory."""

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _frozen_statistics(module)

    return checkpoint(module, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    # PyTorch's recomputation would update them a second time with the same batch.
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats and m.training]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
