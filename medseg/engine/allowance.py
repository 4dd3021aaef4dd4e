"""What validation may take of a budget in minutes: a share of them, spent on a fixed sample of the held-out cases."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as distributed
from ignite.engine import Engine, Events

from medseg.engine.device import world_size

SHARE = 0.05  # of the minutes, for all validations together
CHECKS = 8  # validations that the share is divided among; there are more where all cases take less than a part
ALL = 2**24  # more cases than there are
FEW = 8  # cases that a validation takes though they take longer: fewer tell little


class Allowance:
    """Says when to validate, and ends a validation that has seen enough; a handler of the evaluator that validates.

    The first validation goes through the cases in their order (`SpreadOut`) until its part of the allowance is used up,
    or, of the first few cases, half of all of it. The cases that it came to are those of every later one. Such a one is
    due when the allowance for the time that has passed pays for it, and what the last one takes is kept back.

    Args:
        max_minutes: the budget.
        share: of it, for all validations.
        checks: validations that the share is divided among.
    """

    def __init__(self, max_minutes: float, share: float = SHARE, checks: int = CHECKS) -> None:
        self.share, self.total = share, 60 * max_minutes * share
        self.part = self.total / checks
        self.cases: int | None = None
        self.cost: float | None = None

    @property
    def reserve(self) -> float:
        """Seconds that one validation takes, as far as that is known."""
        return self.part if self.cost is None else self.cost

    def is_due(self, seconds: float, spent: float, *, last: bool) -> bool:
        """Whether to validate now.

        Args:
            seconds: of training and validation so far.
            spent: seconds of validation so far.
            last: it is the end of the run.
        """
        if last:
            return spent + self.reserve <= self.total
        return spent + self.reserve <= self.share * seconds and spent + 2 * self.reserve <= self.total

    def state_dict(self) -> dict[str, Any]:
        return {"cases": self.cases, "cost": self.cost}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.cases, self.cost = state["cases"], state["cost"]

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Any) -> None:
        self._began, self._done = time.perf_counter(), 0

    def _count(self, engine: Any) -> None:
        self._done += 1
        if self._done >= self._enough():
            engine.terminate_epoch()  # EPOCH_COMPLETED still fires: the metric is that of the cases so far

    def _enough(self) -> int:
        """How many cases this validation has at least seen when it ends, of this process."""
        if self.cases is not None:
            return self.cases
        with_another = (time.perf_counter() - self._began) * (self._done + 1) / self._done
        limit = self.part if self._done * world_size() >= FEW else self.total / 2
        return self._done if with_another > limit else self._done + 1

    def _complete(self, engine: Any) -> None:
        cases = self._done if self._done < engine.state.epoch_length else ALL
        cost = time.perf_counter() - self._began
        if world_size() > 1:  # all processes must come to the same decisions
            slowest = torch.tensor([-float(cases), cost], device=engine.state.device)
            distributed.all_reduce(slowest, distributed.ReduceOp.MAX)
            cases, cost = -int(slowest[0].item()), slowest[1].item()
        self.cost = cost
        if self.cases is None:
            self.cases = cases
