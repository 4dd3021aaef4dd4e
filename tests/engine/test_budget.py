"""The learning rate is a function of progress, and minutes end a run after its last validation."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events

from medseg.engine.budget import Budget, samples_per_epoch


def run(
    budget_options: dict, epochs: int = 4, length: int = 5, step: float = 0.0
) -> tuple[list[float], Engine, Budget]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    budget = Budget(optimizer, **budget_options)
    rates: list[float] = []

    def iteration(engine: Engine, batch: int) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        budget.seconds += step  # as if the iteration had taken so long

    engine = Engine(iteration)
    engine.state.device = torch.device("cpu")
    engine.completed_epochs = []
    budget.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.completed_epochs.append(e.state.epoch))
    engine.run(range(length), max_epochs=epochs, epoch_length=length)
    return rates, engine, budget


def test_poly_decay_after_a_linear_warm_up() -> None:
    rates, _, _ = run({"warmup": 0.25, "power": 2.0})
    for step, rate in enumerate(rates):
        progress = step / 20
        expected = 2.0 * min((progress + 1e-3) / 0.25, 1) * (1 - progress) ** 2
        assert math.isclose(rate, expected, rel_tol=1e-9)


def test_minutes_end_the_run_with_a_completed_epoch_and_the_schedule_follows_them() -> None:
    rates, engine, budget = run({"max_minutes": 1.0, "warmup": 0.0, "power": 1.0}, epochs=1000, step=8.0)
    assert len(rates) == 8  # 8 steps of 8 s: the first after which a minute is over
    assert engine.completed_epochs == [1, 2], "the broken-off epoch is completed: it is validated and saved"
    assert rates[-1] == pytest.approx(2.0 * (1 - 7 * 8 / 60), abs=0.01)
    assert budget.is_over


@pytest.mark.parametrize(
    ("cases", "batch", "iterations", "expected"), [(166, 4, None, 168), (3, 2, None, 40), (9, 2, 7, 14)]
)
def test_samples_of_an_epoch(cases: int, batch: int, iterations: int | None, expected: int) -> None:
    assert samples_per_epoch(cases, batch, iterations) == expected
