"""How long to train, and the learning rate that follows it.

The budget is a number of epochs, of iterations or of minutes. Minutes are those of training (waiting for data, steps,
saving) and of validation together, from the first step on. Start-up is none of them, nor is the final scoring of the
held-out cases. A resumed run goes on with the minutes that were left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as distributed
from ignite.engine import Engine, Events

from medseg.engine.allowance import Allowance
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
        max_minutes: minutes of training and validation, or None: the trainer's `max_epochs` is the budget.
        max_iterations: steps of training, or None.
        warmup: share of the budget in which the rate rises linearly.
        power: of the polynomial decay (Chen et al. 2017, DeepLab).
        allowance: what validation may take of the minutes; training ends as early as the last one needs, if there
            is one. None: there is no validation, or no limit to it.

    `seconds` are those of training, `validation_seconds` those of validation.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        max_minutes: float | None = None,
        warmup: float = 0.0,
        power: float = 0.9,
        max_iterations: int | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.allowance = allowance
        self.optimizer, self.max_minutes, self.warmup, self.power = optimizer, max_minutes, warmup, power
        self.max_iterations = max_iterations
        self.iterations = 0
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.seconds = self.validation_seconds = 0.0
        self.ended_after = 0.0  # minutes, of a budget that was used up
        self._since: float | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_clock)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rates)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_run)

    def progress(self, engine: Any, done: int) -> float:
        """Share of the budget that is used up after so many steps (and the minutes until now), in [0, 1]."""
        used = done / (engine.state.max_epochs * engine.state.epoch_length)
        if self.max_minutes is not None:
            used = max(used, self.total_seconds / max(60 * self.max_minutes - self._reserve, 1e-9))
        if self.max_iterations is not None:
            used = max(used, done / self.max_iterations)
        return min(used, 1.0)

    @property
    def total_seconds(self) -> float:
        """Seconds of training and validation."""
        return self.seconds + self.validation_seconds

    @property
    def _reserve(self) -> float:
        return 0.0 if self.allowance is None else self.allowance.reserve(self.validation_seconds)

    @property
    def is_over(self) -> bool:
        """Whether the minutes or the iterations are used up."""
        out_of_time = self.max_minutes is not None and (
            self.ended_after >= self.max_minutes or self.total_seconds + self._reserve >= 60 * self.max_minutes
        )
        return out_of_time or (self.max_iterations is not None and self.iterations >= self.max_iterations)

    @contextmanager
    def validating(self) -> Iterator[None]:
        """What happens inside is validation."""
        self._tick()
        before = self.seconds
        yield
        self._tick()
        self.validation_seconds += self.seconds - before
        self.seconds = before

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know, as plain data; the iterations follow from its epochs."""
        allowance = None if self.allowance is None else self.allowance.state_dict()
        validation = {"validation_seconds": self.validation_seconds, "allowance": allowance}
        return {"seconds": self.seconds, "ended_after": self.ended_after, **validation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of a checkpoint, also one from before validation counted."""
        self.seconds, self.validation_seconds = state["seconds"], state.get("validation_seconds", 0.0)
        self.ended_after = state.get("ended_after", 0.0)
        if self.allowance is not None and state.get("allowance") is not None:
            self.allowance.load_state_dict(state["allowance"])

    def _start_clock(self, engine: Any) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def _tick(self) -> None:
        """Count the time since the last tick as training."""
        now = time.perf_counter()
        self.seconds += now - (now if self._since is None else self._since)
        self._since = now

    def _set_rates(self, engine: Any) -> None:
        progress = self.progress(engine, engine.state.iteration - 1)
        rise = min((progress + 1e-3) / self.warmup, 1.0) if self.warmup else 1.0
        factor = rise * (1.0 - progress) ** self.power
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor

    def _count(self, engine: Any) -> None:
        self._tick()
        self.iterations = engine.state.iteration
        self.agree(engine)  # all processes must leave after the same step
        if self.is_over:
            engine.terminate_epoch()  # EPOCH_COMPLETED still fires: the last validation and checkpoint happen

    def agree(self, engine: Any) -> None:
        """Let all processes count the minutes of the slowest."""
        if self.max_minutes is not None and world_size() > 1:
            seconds = torch.tensor([self.seconds, self.validation_seconds], device=engine.state.device)
            distributed.all_reduce(seconds, distributed.ReduceOp.MAX)
            self.seconds, self.validation_seconds = seconds.tolist()

    def _end_run(self, engine: Any) -> None:
        if self.is_over:
            self.ended_after = self.max_minutes or 0.0
            engine.terminate()
