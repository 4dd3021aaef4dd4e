"""What is in a checkpoint is looked at before the training goes on with it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from medseg.engine.checkpoint import check_optimizer, check_progress

PROGRESS: dict[str, Any] = {
    "epoch": 1,
    "seconds": 2.5,
    "best_metric": 0.5,
    "best_epoch": 1,
    "best_scores": [0.5],
    "history": [{"epoch": 1, "val/dice": None}],
    "begun": {"steps": 1, "loss_sum": torch.zeros(()), "progress": None},
    "allowance": {"cases": 3, "cost": 0.5},
}
WRONG = ("x", [], {}, {"a": []}, torch.zeros(2), [None, "x"])
OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "plain": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
}


def test_progress_is_what_it_was() -> None:
    check_progress(PROGRESS)
    check_progress({key: PROGRESS[key] for key in ("epoch", "seconds", "history")})  # an older one


@pytest.mark.parametrize("key", PROGRESS)
def test_progress_of_another_type(key: str) -> None:
    for value in WRONG:
        if type(value) is type(PROGRESS[key]) and not value:
            continue
        with pytest.raises(ValueError, match=key):
            check_progress(PROGRESS | {key: value})


@pytest.fixture(params=OPTIMIZERS)
def optimizer(request: pytest.FixtureRequest) -> torch.optim.Optimizer:
    """One that has made a step."""
    network = torch.nn.Conv2d(2, 3, 3)
    made = OPTIMIZERS[request.param](network.parameters())
    network(torch.ones(1, 2, 5, 5)).sum().backward()
    made.step()
    return made


def test_the_state_of_an_optimizer(optimizer: torch.optim.Optimizer) -> None:
    check_optimizer(optimizer, optimizer.state_dict())


def test_the_state_of_an_optimizer_with_anything_else(optimizer: torch.optim.Optimizer) -> None:
    kept = optimizer.state_dict()
    for number, values in kept["state"].items():
        for name in values:
            for value in ("x", [], {}, torch.zeros(7), torch.zeros(1).to_sparse(), torch.ones(3, dtype=torch.bool)):
                other = copy.deepcopy(kept)
                other["state"][number][name] = value
                with pytest.raises(ValueError, match="of a parameter"):
                    check_optimizer(optimizer, other)
    for name in ("lr", "weight_decay"):
        other = copy.deepcopy(kept)
        other["param_groups"][0][name] = "x"
        with pytest.raises(ValueError, match=name):
            check_optimizer(optimizer, other)
    other = copy.deepcopy(kept)
    other["param_groups"][0]["params"] = [0]
    with pytest.raises(ValueError, match="parameters are others"):
        check_optimizer(optimizer, other)
