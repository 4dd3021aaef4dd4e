"""A short training of a planned config, and how it does on cases that it did not see."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from medseg.config.schema import Config
from medseg.core.errors import PartialFailure
from medseg.data.splits.folds import Fold, Folds
from medseg.planning.fitting import Proposal
from medseg.planning.record import Trial
from medseg.workflows.train import train

MOST_TRAINED, MOST_HELD_OUT = 60, 12  # cases
SPLIT = "trial_splits.json"


def trial_fold(folds: Folds) -> Fold:
    """Some of the cases that the first fold trains on, and some that it holds out."""
    first = folds.folds[0]
    return Fold(_some(first.training, MOST_TRAINED), _some(first.validation, MOST_HELD_OUT))


def try_out(proposal: Proposal, fold: Fold, minutes: float, folder: Path) -> Trial:
    """Train the proposal for so many minutes on the cases of the fold, and score what it holds out.

    Args:
        folder: for the run and its preprocessed cases; kinds with the same preprocessing share them.

    Raises:
        MedsegError: the training cannot be begun, or fails.
    """
    split = folder / SPLIT
    split.write_text(Folds((fold,), seed=0).to_json())
    run = folder / proposal.kind.name.replace(" ", "_").replace(".", "_")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(PartialFailure):
        train(_short(proposal.config, split, folder, minutes), run=run)
    scores = json.loads((run / "eval" / "metrics.json").read_text())
    with open(run / "history.csv", newline="") as file:
        epochs = len(list(csv.DictReader(file)))
    return Trial(
        dice=round(scores.get("mean_dice") or scores.get("mean_iou") or 0.0, 4),
        cases=len(fold.validation),
        minutes=round(minutes, 3),
        epochs=epochs,
    )


def _short(config: Config, split: Path, folder: Path, minutes: float) -> Config:
    data = {"fold": 0, "folds_file": str(split), "cache": str(folder / "cache")}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=data),
            "training": config.training.model_copy(update={"max_minutes": minutes, "validation_interval": 10**6}),
            "inference": config.inference.model_copy(update={"mirror_axes": []}),
        }
    )


def _some(names: Sequence[str], most: int) -> tuple[str, ...]:
    """At most so many of them, evenly spaced."""
    if len(names) <= most:
        return tuple(names)
    return tuple(names[n * len(names) // most] for n in range(most))
