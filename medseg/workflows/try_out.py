"""Short trainings of planned configs, and how each does on cases that it did not see."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.config.schema import Config
from medseg.config.stages import second_share
from medseg.core.errors import MedsegError, PartialFailure
from medseg.core.files import readable
from medseg.core.tables import read_table
from medseg.data.cases.dataset import Dataset
from medseg.data.splits.folds import Fold, Folds, make_folds
from medseg.data.splits.split import OFFICIAL, TEST
from medseg.engine.resume import HISTORY
from medseg.planning.fitting import Proposal
from medseg.planning.record import Trial
from medseg.workflows.train import train

TRIAL_SHARE = 0.15  # of the minutes, for all trials together
TRIAL_STEPS = 200  # fewer say nothing
MOST_TRAINED, MOST_HELD_OUT = 60, 12  # cases
SPLIT = "trial_splits.json"


def without_test(dataset: Dataset) -> Dataset:
    """The data set without the official list that nobody trains on or chooses by."""
    kept_back = set(dataset.splits.get(TEST, ()))
    return replace(dataset, cases=tuple(case for case in dataset.cases if case not in kept_back))


def official_folds(
    dataset: Dataset, presence: Mapping[str, frozenset[str]], patients: Mapping[str, str] | None
) -> Folds | None:
    """Folds of the official training list, so that no trial touches what the data set holds out; None: it has none.

    Args:
        presence: case -> the classes that it has.
    """
    listed = {case.name for case in dataset.splits.get(OFFICIAL["training"], ())}
    inside = {name: classes for name, classes in presence.items() if name in listed}
    if len(inside) < 2:
        return None
    who = {name: patient for name, patient in (patients or {}).items() if name in inside}
    return make_folds(inside, who, max(2, min(5, len(set(who.values()) or inside))), seed=0)


def trial_fold(folds: Folds) -> Fold:
    """Some of the cases that the first fold trains on, and some that it holds out."""
    first = folds.folds[0]
    return Fold(_some(first.training, MOST_TRAINED), _some(first.validation, MOST_HELD_OUT))


def no_trial(proposals: Sequence[Proposal], folds: Folds | None, minutes: float | None) -> str:
    """Why the kinds cannot be tried on equal terms; empty where they can be."""
    if minutes is None:
        return "without --minutes there is no trial"
    if folds is None:
        return "one patient is too few for a trial"
    slowest = max(proposal.step.seconds / second_share(proposal.config) for proposal in proposals)
    taken = len(proposals) * TRIAL_STEPS * slowest / 60
    if taken <= TRIAL_SHARE * minutes:
        return ""
    return (
        f"a trial, {TRIAL_STEPS} steps of each in the same time, would take {taken:.2g} of {minutes:g} minutes,"
        f" more than {TRIAL_SHARE:.0%}"
    )


def try_all(proposals: Sequence[Proposal], folds: Folds, minutes: float | None, place: Path) -> dict[str, Trial]:
    """How each proposal does after the same short training; nothing where there is no time for it.

    Args:
        place: a folder that can be written to; what the trainings write there is removed again.
    """
    if minutes is None or len(proposals) < 2 or no_trial(proposals, folds, minutes):
        return {}
    each = TRIAL_SHARE * minutes / len(proposals)
    fold = trial_fold(folds)
    found = {}
    with tempfile.TemporaryDirectory(prefix=".medseg-plan-", dir=place) as folder:
        for proposal in proposals:
            print(f"trying a {proposal.kind.said} for {each:.2g} minutes")
            found[proposal.kind.name] = try_out(proposal, fold, each, Path(folder))
    return found


def try_out(proposal: Proposal, fold: Fold, minutes: float, folder: Path) -> Trial:
    """Train the proposal for so many minutes on the cases of the fold, and score what it holds out.

    Args:
        folder: for the run and its preprocessed cases; kinds with the same preprocessing share them.

    Returns:
        How it did, or why it failed: another kind may do better.
    """
    split = folder / SPLIT
    split.write_text(Folds((fold,), seed=0).to_json())
    run = folder / proposal.kind.name.replace(" ", "_").replace(".", "_")
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(PartialFailure):
            train(_short(proposal.config, split, folder, minutes), run=run)
    except MedsegError as error:
        return Trial(0.0, 0, round(minutes, 3), 0, failed=" ".join(str(error).split()))
    scores = json.loads(readable(run / "eval" / "metrics.json").read_text())
    epochs = len(read_table(run / HISTORY))
    return Trial(
        dice=round(scores.get("mean_dice") or scores.get("mean_iou") or 0.0, 4),
        cases=int(scores["cases"]),
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
