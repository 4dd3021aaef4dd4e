"""What happens around training: validation, progress, and a history of one row an epoch."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

from medseg.core.stopping import patiently
from medseg.core.tables import write_table
from medseg.engine.allowance import Allowance
from medseg.engine.device import rank
from medseg.engine.resume import HISTORY
from medseg.review.tensorboard import Board


class Validation(ValidationHandler):
    """MONAI's handler, which also validates the last epoch of a run, whatever the interval.

    Args:
        interval: epochs between validations; at least so many, where there is an allowance.
        validator: the engine that validates.
        epoch_level: MONAI's.
        allowance: validate as it says; None: whatever it takes.
    """

    def __init__(
        self,
        interval: int,
        validator: Evaluator | None = None,
        epoch_level: bool = True,
        allowance: Allowance | None = None,
    ) -> None:
        super().__init__(interval, validator, epoch_level)
        self.allowance = allowance

    def __call__(self, engine: Any) -> None:
        with engine.budget.validating(), patiently(signal.SIGTERM):  # Ctrl-C is for who does not want to wait
            super().__call__(engine)

    def attach(self, engine: Engine) -> None:
        def is_due(engine: Any, epoch: int) -> bool:
            budget = engine.budget
            is_last = budget.is_over or epoch == engine.state.max_epochs
            if not is_last and epoch % self.interval:
                return False
            if self.allowance is None:
                return True
            return self.allowance.is_due(budget.total_seconds, budget.validation_seconds, last=is_last)

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self)


class History:
    """Record minutes, loss, learning rate and validation metrics after every epoch, in `engine.state.history`.

    Minutes are those of training and validation; of a budget in minutes, those of validation alone stand there too.

    Attach it after validation.

    Args:
        folder: the run folder: `history.csv` and `tensorboard/` in it.
        validator: the engine that validates, or None.
    """

    def __init__(self, folder: str, validator: Any = None) -> None:
        self.folder, self.validator = Path(folder), validator
        self.board: Board | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.record)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def record(self, engine: Any) -> None:
        """Add the row of this epoch."""
        if rank() != 0:
            return
        row: dict[str, float | int | None] = {
            "epoch": engine.state.epoch,
            "minutes": engine.budget.total_seconds / 60,
            "train/loss": engine.state.metrics["loss"],
            "train/learning_rate": engine.optimizer.param_groups[0]["lr"],
        }
        if engine.budget.allowance is not None:
            row["validation_minutes"] = engine.budget.validation_seconds / 60
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            for name, value in self.validator.state.metrics.items():
                row[f"val/{name}"] = value
            for name, value in self.validator.state.metric_details.items():
                row[f"val/{name}"] = value
        engine.state.history.append(row)
        write_table(self.folder / HISTORY, engine.state.history)
        if self.board is None:  # a resumed run overwrites what a killed one wrote after its last checkpoint
            self.board = Board(self.folder / "tensorboard", purge_step=engine.state.epoch)
            self.board.explain()
        scalars = {key: value for key, value in row.items() if "/" in key and value is not None}
        self.board.scalars(scalars, step=engine.state.epoch)
        self.board.flush()  # the checkpoint of this epoch comes next, after which nobody logs it again

    def close(self, engine: Any) -> None:
        """Flush the TensorBoard log."""
        if self.board is not None:
            self.board.close()
            self.board = None


class Progress:
    """A progress bar over the iterations, on the first process, where there is a terminal.

    Args:
        description: what is going on.
    """

    def __init__(self, description: str) -> None:
        self.description = description

    def attach(self, engine: Engine) -> None:
        if rank() == 0:
            ProgressBar(desc=self.description, disable=None).attach(engine)  # None: quiet without a terminal
