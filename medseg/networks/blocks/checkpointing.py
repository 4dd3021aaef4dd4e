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
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    counts = [None if batches is None else batches.clone() for _, batches in before]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches), count in zip(norms, before, counts, strict=True):
            norm.momentum = momentum
            if batches is not None and count is not None:
                batches.copy_(count)
