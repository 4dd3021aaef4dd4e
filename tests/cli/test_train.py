"""The verbs that make a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg.config.load import load_config


def test_train_passes_on_what_it_was_told(medseg: Any, replace: Any) -> None:
    calls = replace("medseg.workflows.train", "train", Path("runs/x"))
    assert medseg("train", "--config", "hippocampus", "--set", "data.root=/d", "--set", "seed=1", "--restart")[0] == 0
    assert medseg("train", "--config", "demo", "--run", "here", "--dry-run")[0] == 0
    assert medseg("train", "--config", "demo", "--accept-changes", "--verify")[0] == 0
    config = load_config("hippocampus", ["data.root=/d", "seed=1"])
    told = {"run": None, "fold": None, "restart": False, "dry_run": False, "accept_changes": False, "verify": False}
    assert calls == [
        ((config,), told | {"restart": True}),  # no run: runs/NAME
        ((load_config("demo"),), told | {"run": Path("here"), "dry_run": True}),
        ((load_config("demo"),), told | {"accept_changes": True, "verify": True}),
    ]
