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
    or, of the first few cases, half of all of it; one case is seen whatever it takes. The cases that it came to are
    those of every later one, equally many in each process. Such a one is due when the allowance for the time that has
    passed pays for it, and what the last one takes is kept back while the allowance can still pay for it.

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
    def _next(self) -> float:
        """Seconds that one validation takes, as far as that is known."""
        return self.part if self.cost is None else self.cost

    def reserve(self, spent: float) -> float:
        """Seconds that are kept back for the validation of the last weights: 0 where there will be none.

        Args:
            spent: seconds of validation so far.
        """
        return self._next if spent + self._next <= self.total else 0.0

    def is_due(self, seconds: float, spent: float, *, last: bool) -> bool:
        """Whether to validate now.

        Args:
            seconds: of training and validation so far.
            spent: seconds of validation so far.
            last: it is the end of the run.
        """
        if last:
            return spent + self._next <= self.total
        return spent + self._next <= self.share * seconds and spent + 2 * self._next <= self.total

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
        self._everywhere = -int(_largest(engine, -(engine.state.epoch_length or 0)))  # cases that each process has

    def _count(self, engine: Any) -> None:
        self._done += 1
        if self._is_enough(engine) if self.cases is None else self._done >= self.cases:
            engine.terminate_epoch()  # EPOCH_COMPLETED still fires: the metric is that of the cases so far

    def _is_enough(self, engine: Any) -> bool:
        """Whether the first validation ends here, which all processes decide together, after each case."""
        if self._done > self._everywhere:  # the last case of a process that has one more
            return False
        with_another = (time.perf_counter() - self._began) * (self._done + 1) / self._done
        limit = self.part if self._done * world_size() >= FEW else self.total / 2
        return bool(_largest(engine, with_another > limit))

    def _complete(self, engine: Any) -> None:
        self.cost = _largest(engine, time.perf_counter() - self._began)
        if self.cases is None:
            cases = self._done if self._done < (engine.state.epoch_length or 0) else ALL
            self.cases = -int(_largest(engine, -cases))


def _largest(engine: Any, value: float) -> float:
    """The largest value of all processes, which must come to the same decisions."""
    if world_size() == 1:
        return float(value)
    largest = torch.tensor(float(value), device=engine.state.device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return largest.item()
