"""How long to train, and the learning rate that follows it.

The budget is a number of epochs, of iterations or of minutes. Only training counts towards the minutes (waiting for
data and steps), not start-up, validation or saving, so a resumed run goes on with the minutes that were left.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as distributed
from ignite.engine import Engine, Events

from medseg.engine.device import world_size


def samples_per_epoch(cases: int, batch_size: int, iterations: int | None = None) -> int:
    """Patches in an epoch, over all processes: by default as many as show every case once, at least 20 batches."""
    batch = batch_size * world_size()
    return batch * (iterations or max(-(-cases // batch), 20))


class Budget:
    """Set the learning rate from the progress of the run, before every step, and end the run when the minutes are over.

    learning_rate = base * min(progress / warmup, 1) * (1 - progress) ** power, with progress in [0, 1] of the epochs,
    the iterations or the minutes, whichever is furthest. A pure function of progress: there is no scheduler state.

    Args:
        optimizer: its groups' initial learning rates are the base.
        max_minutes: minutes of training, or None: the trainer's `max_epochs` is the budget.
        max_iterations: steps of training, or None.
        warmup: share of the budget in which the rate rises linearly.
        power: of the polynomial decay (Chen et al. 2017, DeepLab).
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_minutes: float | None = None,
        warmup: float = 0.0,
        power: float = 0.9,
        max_iterations: int | None = None,
    ) -> None:
        self.optimizer, self.max_minutes, self.warmup, self.power = optimizer, max_minutes, warmup, power
        self.max_iterations = max_iterations
        self.iterations = 0
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.seconds = 0.0
        self._since = 0.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_clock)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rates)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_run)

    def progress(self, engine: Any) -> float:
        """Share of the budget that is used up, in [0, 1]."""
        steps = engine.state.max_epochs * engine.state.epoch_length
        used = max(engine.state.iteration - 1, 0) / steps
        if self.max_minutes is not None:
            used = max(used, self.seconds / 60 / self.max_minutes)
        if self.max_iterations is not None:
            used = max(used, (engine.state.iteration - 1) / self.max_iterations)
        return min(used, 1.0)

    @property
    def is_over(self) -> bool:
        """Whether the minutes or the iterations are used up."""
        out_of_time = self.max_minutes is not None and self.seconds >= 60 * self.max_minutes
        return out_of_time or (self.max_iterations is not None and self.iterations >= self.max_iterations)

    def _start_clock(self, engine: Any) -> None:
        self._since = time.perf_counter()

    def _set_rates(self, engine: Any) -> None:
        progress = self.progress(engine)
        rise = min((progress + 1e-3) / self.warmup, 1.0) if self.warmup else 1.0
        factor = rise * (1.0 - progress) ** self.power
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor

    def _count(self, engine: Any) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now
        self.iterations = engine.state.iteration
        if self.max_minutes is not None and world_size() > 1:  # all processes must leave after the same step
            seconds = torch.tensor(self.seconds, device=engine.state.device)
            distributed.all_reduce(seconds, distributed.ReduceOp.MAX)
            self.seconds = seconds.item()
        if self.is_over:
            engine.terminate_epoch()  # EPOCH_COMPLETED still fires: the last validation and checkpoint happen

    def _end_run(self, engine: Any) -> None:
        if self.is_over:
            engine.terminate()
