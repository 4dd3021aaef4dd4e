"""Validation within a budget in minutes: how many cases, when, what it costs, and which weights are kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from medseg.data.training.spread import spread_out
from medseg.engine import allowance as timing
from medseg.engine.allowance import Allowance
from medseg.engine.budget import Budget
from medseg.engine.handlers import Validation
from medseg.engine.resume import Checkpoints, surpasses
from tests.tiny import finish, together


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    assert timing.time.perf_counter is not None
    return Clock(monkeypatch)


class Run:
    """A training whose steps and cases take the seconds that they are given."""

    def __init__(
        self,
        clock: Clock,
        minutes: float,
        *,
        case: float,
        cases: int = 20,
        step: float = 1.0,
        steps: int = 5,
        interval: int = 1,
        saving: float = 0.0,
        scores: Callable[[int], list[float]] = lambda epoch: [float(epoch)] * 3,
    ) -> None:
        self.allowance = Allowance(minutes)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        self.rates: list[float] = []
        self.validations: list[tuple[float, int]] = []  # (minute of the run, cases)
        self.budget = Budget(optimizer, max_minutes=minutes, warmup=0.0, power=1.0, allowance=self.allowance)
        self.began = clock.now

        def validated(engine: Engine, batch: int) -> None:
            clock.passes(case)

        self.validator = Engine(validated)
        self.validator.state.device = torch.device("cpu")
        self.allowance.attach(self.validator)

        def validate(epoch: int) -> None:
            self.validator.run(range(cases), max_epochs=1)
            self.validations.append(((clock.now - self.began) / 60, self.validator.state.iteration))

        def train_step(engine: Engine, batch: int) -> None:
            self.rates.append(optimizer.param_groups[0]["lr"])
            clock.passes(step)

        self.trainer: Any = Engine(train_step)
        self.trainer.state.device = torch.device("cpu")
        self.trainer.budget = self.budget
        handler = Validation(interval, allowance=self.allowance)
        handler.validator = SimpleNamespace(run=validate)
        self.budget.attach(self.trainer)
        handler.attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: clock.passes(saving))
        self.steps = steps

    def go(self) -> Run:
        self.trainer.run(range(self.steps), max_epochs=10_000, epoch_length=self.steps)
        return self


@pytest.mark.parametrize("case", [0.01, 0.3, 1.0, 5.0, 14.0])
@pytest.mark.parametrize("steps", [1, 5, 60, 400])
def test_validation_takes_its_share_of_the_minutes_and_the_last_epoch_has_one(
    clock: Clock, case: float, steps: int
) -> None:
    run = Run(clock, 10.0, case=case, steps=steps).go()
    assert run.budget.validation_seconds <= 0.05 * 600 + 1e-6
    assert len({cases for _, cases in run.validations}) == 1, "the same cases every time"
    assert run.validations[-1][0] == pytest.approx(10.0, abs=(1.0 + 4.0) / 60), "the last weights are validated"
    assert (clock.now - run.began) / 60 <= 10.0 + 1 / 60
    assert run.rates[-1] < 0.01, "the learning rate comes down all the way"
    assert run.budget.is_over


def test_cheap_cases_are_all_seen_and_often(clock: Clock) -> None:
    run = Run(clock, 10.0, case=0.01, steps=5).go()
    assert {cases for _, cases in run.validations} == {20}
    assert len(run.validations) > 100
    every_tenth = Run(clock, 10.0, case=0.01, steps=5, interval=10).go()
    assert 10 <= len(every_tenth.validations) <= 13


def test_dear_cases_are_a_few_and_seen_rarely(clock: Clock) -> None:
    assert {cases for _, cases in Run(clock, 10.0, case=0.3).go().validations} == {12}  # of an eighth of 30 seconds
    few = Run(clock, 10.0, case=1.0).go().validations
    assert {cases for _, cases in few} == {8}
    assert len(few) == 3  # of 30 seconds
    assert [cases for _, cases in Run(clock, 10.0, case=14.0).go().validations] == [1, 1]
    assert [cases for _, cases in Run(clock, 10.0, case=20.0).go().validations] == [1], "a second one would be too much"


def test_nothing_is_kept_back_for_a_validation_that_cannot_be_paid_for(clock: Clock) -> None:
    run = Run(clock, 10.0, case=120.0).go()  # a case takes a fifth of the minutes
    assert [cases for _, cases in run.validations] == [1]
    assert run.budget.total_seconds == pytest.approx(600, abs=5)
    assert run.rates[-1] < 0.01
    allowance = Allowance(10.0)
    allowance.load_state_dict({"cases": 1, "cost": 20.0})
    assert (allowance.reserve(10.0), allowance.reserve(10.1)) == (20.0, 0.0)  # of 30 seconds


SEVERAL = """
import json, sys, time
import torch
from ignite.engine import Engine
from medseg.engine.allowance import Allowance
from medseg.engine.device import gather, process_group, rank

with process_group():
    cases, slow = 6 + (rank() == 0), rank() == 1  # of 13; where all are seen, the first process has one more
    allowance = Allowance(max_minutes=float(sys.argv[1]))
    found = []
    for first in (True, False):
        seen = []
        validator = Engine(lambda engine, case: (seen.append(case), time.sleep(0.05 if first and slow else 0.001)))
        validator.state.device = torch.device("cpu")
        allowance.attach(validator)
        validator.run(range(cases), max_epochs=1)
        found.append(gather([len(seen)]))
    if rank() == 0:
        print(json.dumps([*found, allowance.cases]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("minutes", "seen"), [(0.3, None), (100.0, [7, 6])])
def test_several_processes_see_equally_many_cases_from_the_first_validation_on(
    tmp_path: Path, minutes: float, seen: list[int] | None
) -> None:
    (tmp_path / "several.py").write_text(SEVERAL)
    processes = together(2, str(minutes), cwd=tmp_path, module="several")
    out, _ = [finish(process)[0] for process in processes]
    first, second, cases = json.loads(out.splitlines()[-1])
    assert first == second == (seen or [cases] * 2)
    assert seen is not None or 1 <= cases <= 4, "by the clock of the slower one"


def test_saving_counts_as_training(clock: Clock) -> None:
    run = Run(clock, 1.0, case=0.01, steps=1, step=1.0, saving=1.0).go()
    assert len(run.rates) == pytest.approx(30, abs=2)
    assert run.budget.total_seconds == pytest.approx(60, abs=2)


def test_a_resumed_run_has_the_minutes_and_the_sample_that_were_left(clock: Clock) -> None:
    first = Run(clock, 10.0, case=1.0)
    first.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=60), lambda engine: engine.terminate())
    first.go()
    state = first.budget.state_dict()
    second = Run(clock, 10.0, case=0.5)  # the machine is idle now
    second.budget.load_state_dict(state)
    clock.passes(1000)  # between the two
    second.trainer.add_event_handler(Events.STARTED, lambda: clock.passes(50))  # start-up
    second.go()
    assert second.budget.total_seconds == pytest.approx(600, abs=5)
    assert {cases for _, cases in first.validations + second.validations} == {8}
    third = Run(clock, 10.0, case=0.5)
    third.budget.load_state_dict(second.budget.state_dict())
    assert third.budget.is_over, "although its last validation took less than was kept back"
    longer = Run(clock, 12.0, case=0.5)
    longer.budget.load_state_dict(second.budget.state_dict())
    assert not longer.budget.is_over
    older = Run(clock, 10.0, case=0.5)
    older.budget.load_state_dict({"seconds": 300.0})  # of a checkpoint from before validation counted
    assert older.go().budget.total_seconds == pytest.approx(600, abs=5)


def test_a_lead_beyond_a_standard_error_counts() -> None:
    assert surpasses([0.8, 0.7, 0.9], [0.7, 0.6, 0.8])
    assert not surpasses([0.7, 0.6, 0.8], [0.8, 0.7, 0.9])
    assert not surpasses([0.9, 0.7, 0.7], [0.6, 0.75, 0.76]), "by one case alone"
    assert not surpasses([0.5, 0.5], [0.5, 0.5])
    assert not surpasses([0.9], [0.1]), "one case is no evidence"
    assert not surpasses([0.9, 0.9], [0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("last", "kept", "best"),
    [
        ([0.60, 0.70, 0.80], 1, 0.80),  # clearly worse than the best
        ([0.85, 0.77, 0.77], 3, 0.797),  # worse by chance
        ([0.90, 0.90, 0.90], 3, 0.90),
        (None, 3, -1.0),  # there was no time to validate it
    ],
)
def test_the_last_weights_are_kept_unless_the_best_are_clearly_better(
    tmp_path: Any, last: list[float] | None, kept: int, best: float
) -> None:
    weights = torch.nn.Linear(1, 1)
    state = SimpleNamespace(best_metric=-1.0, best_metric_epoch=-1, epoch=0, key_metric_name="dice", metrics={})
    budget = Budget(torch.optim.SGD(weights.parameters(), 0.1), max_minutes=1.0, allowance=Allowance(1.0))
    trainer: Any = SimpleNamespace(
        network=weights, average=None, optimizer=budget.optimizer, gradient_scaler=torch.amp.GradScaler(enabled=False)
    )
    trainer.budget, trainer.should_terminate = budget, False
    checkpoints = Checkpoints(str(tmp_path), SimpleNamespace(state=state))
    for epoch, scores in enumerate(([0.80, 0.80, 0.80], [0.5, 0.5, 0.5], last), start=1):
        trainer.state = SimpleNamespace(epoch=epoch, history=[])
        weights.bias.data.fill_(epoch)
        trainer.should_terminate = epoch == 3
        if scores is not None:
            mean = float(np.mean(scores))
            state.epoch, state.case_scores, state.metrics = epoch, scores, {"dice": mean}
            if mean > state.best_metric:
                state.best_metric, state.best_metric_epoch = mean, epoch
        checkpoints.save(trainer)
        if epoch == 2:
            assert torch.load(tmp_path / "model.pt")["bias"].item() == 1
    assert torch.load(tmp_path / "model.pt")["bias"].item() == kept
    saved = torch.load(tmp_path / "checkpoint.pt")
    assert saved["best_metric"] == pytest.approx(best, abs=1e-3)
    assert saved["best_epoch"] == (kept if last is not None else -1)


def test_the_first_cases_stand_for_all() -> None:
    random = np.random.default_rng(0)
    cases = 200
    occurs = np.zeros((cases, 3), dtype=bool)
    occurs[:, 0] = random.random(cases) < 0.7
    occurs[:, 1] = occurs[:, 0] & (random.random(cases) < 0.5)
    occurs[[7, 90, 150], 2] = True  # a rare one
    patients = [f"patient {number // 4}" for number in range(cases)]
    order = spread_out(occurs, patients, seed=0)
    assert sorted(order) == list(range(cases))
    assert occurs[order[:8]].sum(0).min() >= 2, "a few of each target, the rare one too"
    assert (~occurs[order[:8]].any(1)).any(), "and cases without any"
    assert len({patients[case] for case in order[:50]}) == 50
    for first in (20, 40):
        assert np.abs(occurs[order[:first], :2].mean(0) - occurs[:, :2].mean(0)).max() < 0.1
    assert spread_out(occurs, patients, seed=0) == order
    assert spread_out(occurs, patients, seed=1) != order
