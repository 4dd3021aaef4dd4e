"""`plan.json`: everything of a plan that was measured, so that the same plan can be made again from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.core.errors import ConfigError
from medseg.core.files import replace_file
from medseg.planning.rules import Machine
from medseg.planning.step import Step

SCHEMA = "medseg-plan/1"


@dataclass(frozen=True)
class Trial:
    """How a kind of network did in a short training.

    Args:
        dice: mean of the held-out cases and targets, on their own grid.
        cases: held out.
    """

    dice: float
    cases: int
    minutes: float
    epochs: int


@dataclass(frozen=True)
class Record:
    """What was asked and what was measured.

    Args:
        steps: what was measured -> its costs.
        trials: kind of network -> how it did; empty where none were tried.
        chosen: the kind in the config, and why.
    """

    data: str
    minutes: float | None
    memory_gib: float | None
    overrides: tuple[str, ...]
    machine: Machine
    steps: Mapping[str, Step] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    chosen: str = ""
    why: str = ""

    def write(self, path: Path) -> None:
        replace_file(path, json.dumps({"schema": SCHEMA} | asdict(self), indent=1) + "\n")

    def with_step(self, name: str, step: Step) -> Record:
        return replace(self, steps={**self.steps, name: step})

    def with_trial(self, kind: str, trial: Trial) -> Record:
        return replace(self, trials={**self.trials, kind: trial})


def read_record(path: Path) -> Record:
    """The inverse of `Record.write`.

    Raises:
        ConfigError: there is no such file, or it is no record of a plan.
    """
    remedy = "give the JSON file beside a planned config, or plan anew without --from"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", remedy) from error
    try:
        if content.pop("schema") != SCHEMA:
            raise KeyError("schema")
        content["machine"] = Machine(**content["machine"])
        content["steps"] = {name: Step(**step) for name, step in content["steps"].items()}
        content["trials"] = {name: Trial(**trial) for name, trial in content["trials"].items()}
        content["overrides"] = tuple(str(one) for one in content["overrides"])
        return Record(**content)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{path}: is no record of a plan ({type(error).__name__}: {error})"
        raise ConfigError(what, remedy) from error
