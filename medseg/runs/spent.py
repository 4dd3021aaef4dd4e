"""Where the time of a training went: `time.json` in its folder, and a line for a person."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, FiniteFloat

from medseg.core.files import readable, replace_file
from medseg.engine.budget import Budget

TIME = "time.json"
SCHEMA = "medseg-time/1"


@dataclass(frozen=True)
class Spent:
    """Seconds, over all sittings of a run.

    Args:
        training: steps, waiting for data, saving.
        validation: during training, on the preprocessed grid.
        scoring: the kept weights on every held-out case, its mask, table and report.
        budget: seconds that the config gives to training and validation; None: it counts epochs or steps.
    """

    training: float
    validation: float
    scoring: float
    budget: float | None = None

    @classmethod
    def of(cls, budget: Budget) -> Self:
        """Of a training, before anything is scored."""
        minutes = budget.max_minutes
        return cls(budget.seconds, budget.validation_seconds, 0.0, None if minutes is None else 60 * minutes)

    def __add__(self, other: Spent) -> Spent:
        """Of two stages together."""
        budgets = [one for one in (self.budget, other.budget) if one is not None]
        return Spent(
            self.training + other.training,
            self.validation + other.validation,
            self.scoring + other.scoring,
            sum(budgets) if budgets else None,
        )

    @property
    def shares(self) -> dict[str, float]:
        """Of the budget, else of training and validation together."""
        whole = self.budget or self.training + self.validation
        seconds = {"training": self.training, "validation": self.validation, "scoring": self.scoring}
        return {name: value / whole if whole else 0.0 for name, value in seconds.items()}

    def text(self) -> str:
        shares = self.shares
        parts = [f"{name} {getattr(self, name):.1f} s ({100 * share:.1f} %)" for name, share in shares.items()]
        of = "training and validation" if self.budget is None else f"the {self.budget / 60:g} minutes"
        return f"time, and its share of {of}: {', '.join(parts)}"

    def write(self, run: Path) -> None:
        content = {"schema": SCHEMA, **asdict(self), "shares": self.shares}
        replace_file(run / TIME, json.dumps(content, indent=1) + "\n")


def read_spent(run: Path) -> Spent | None:
    """What `write` wrote; None where there is nothing, or something else."""
    try:
        content = _Seconds.model_validate_json(readable(run / TIME).read_text(encoding="utf-8"), strict=True)
    except (OSError, ValueError):
        return None
    return Spent(content.training, content.validation, content.scoring, content.budget)


class _Seconds(BaseModel):
    """What of `time.json` is read again."""

    training: FiniteFloat
    validation: FiniteFloat
    scoring: FiniteFloat
    budget: FiniteFloat | None
