"""`plan.json`: everything of a plan that was measured, so that the same plan can be made again from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from medseg.core.errors import ConfigError
from medseg.core.files import readable, replace_file
from medseg.planning.rules import Machine
from medseg.planning.step import Step

SCHEMA = "medseg-plan/1"
RECORD = ".json"  # in the place of the ending of the config


@dataclass(frozen=True)
class Trial:
    """How a kind of network did in a short training.

    Args:
        dice: mean of the held-out cases and targets, on their own grid.
        cases: held out, and scored.
        failed: why it gave nothing.
    """

    dice: float
    cases: int
    minutes: float
    epochs: int
    failed: str = ""


@dataclass(frozen=True)
class Record:
    """What was asked and what was measured.

    Args:
        steps: what was measured -> its costs.
        trials: kind of network -> how it did; empty where none were tried.
        chosen, why: the kind in the config.
        fingerprint: digest of the measured data set.
        written: digests of the config beside it: of the one before, which this one replaces, and of this one.
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
    fingerprint: str = ""
    written: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        replace_file(path, json.dumps({"schema": SCHEMA} | asdict(self), indent=1) + "\n")


def is_record(path: Path) -> bool:
    """Whether the file is what a plan wrote."""
    try:
        return bool(json.loads(readable(path).read_text())["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_record(path: Path) -> Record:
    """The inverse of `Record.write`.

    Raises:
        ConfigError: there is no such file, or it is no record of a plan.
    """
    remedy = "give the JSON file beside a planned config, or plan anew without --from"
    try:
        content: dict[str, Any] = json.loads(readable(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", remedy) from error
    try:
        if content.pop("schema") != SCHEMA:
            raise KeyError("schema")
        return TypeAdapter(Record).validate_python(content)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = str(error.errors()[0]["loc"]) if isinstance(error, ValidationError) else str(error)
        what = f"{path}: is no record of a plan ({type(error).__name__}: {reason})"
        raise ConfigError(what, remedy) from error
