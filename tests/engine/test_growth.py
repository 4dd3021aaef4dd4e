"""Patches grow with the progress of a training, from epoch to epoch, whatever the budget is counted in."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from medseg.bundle.compile import compile_training
from medseg.bundle.facts import describe_data
from medseg.bundle.run import parser_of
from medseg.engine import budget
from medseg.planning.step import measure_step
from tests.tiny import tiny_config

BUDGETS: dict[str, dict[str, Any]] = {
    "epochs": {"training__max_epochs": 10},
    "iterations": {"training__max_iterations": 20},
    "minutes": {"training__max_minutes": 20 / 60},  # steps of a second each
}


def sizes(root: Path, **changes: Any) -> list[list[tuple[int, ...]]]:
    """What the network sees in each step of each epoch: voxels along each axis."""
    changes = {"data__validation": 0.0, "training__patch_growth": 0.5, **changes}
    config = tiny_config(root, **changes)
    content = compile_training(config, facts=describe_data(config), bundle_root=str(root / "run"))
    content["train"]["handlers"] = ()
    trainer = parser_of(content).get_parsed_content("train#trainer")
    seen: list[list[tuple[int, ...]]] = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: seen.append([]))
    trainer.network.register_forward_pre_hook(lambda module, given: seen[-1].append(tuple(given[0].shape[2:])))
    trainer.run()
    return seen


@pytest.mark.parametrize("kind", BUDGETS)
def test_patches_are_full_after_the_share_of_the_budget(kind: str, tiny_msd, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(budget.time, "perf_counter", lambda: float(next(clock)))
    seen = sizes(tiny_msd(cases=3), **BUDGETS[kind])
    assert [len(set(epoch)) for epoch in seen] == [1] * 10, "the size changes between epochs only"
    sides = [8, 8, 10, 12, 14, 16, 16, 16, 16, 16]  # of 0, 0.1, ... of the budget: 4 parts of 0.125, in multiples of 2
    assert [epoch[0] for epoch in seen] == [(side,) * 3 for side in sides]


def test_two_dimensions_and_no_growth(tiny_msd) -> None:
    root = tiny_msd(cases=3, shape=(24, 20), spacing_mm=(1.0, 1.0, 1.0))
    flat = {"network__spatial_dims": 2, "training__patch_size": [16, 16], "training__max_epochs": 2}
    assert sizes(root, **flat) == [[(8, 8)] * 2, [(16, 16)] * 2]
    assert sizes(root, **flat, training__patch_growth=0.0) == [[(16, 16)] * 2] * 2


def test_a_step_is_planned_with_the_full_patch(tiny_msd) -> None:
    root = tiny_msd(cases=3)
    costs = []
    for share in (0.0, 0.5):
        config = tiny_config(root, training__patch_growth=share)
        costs.append(measure_step(config, describe_data(config)).kept_gib)
    assert costs[0] == pytest.approx(costs[1])
    assert torch.tensor(costs).gt(0).all()
