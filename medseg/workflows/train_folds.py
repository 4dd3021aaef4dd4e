"""`medseg train --fold k | all`: a cross-validation, each fold a run of its own, and one table of all cases."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from medseg.config.schema import Config
from medseg.core.errors import ConfigError, PartialFailure, Problem, RunError
from medseg.data.cases.dataset import Dataset
from medseg.data.splits.folds import FOLDS_FILE, Folds
from medseg.engine.device import in_first_process, process_group, rank
from medseg.planning.rehearse import rehearse
from medseg.runs.decision import DECISION_FILE
from medseg.runs.folder import CONFIG, write_environment
from medseg.runs.folds import config_folds, keep_folds
from medseg.runs.official import read_data
from medseg.runs.report import REPORT
from medseg.workflows.evaluate import evaluate_folds
from medseg.workflows.postprocess import postprocess
from medseg.workflows.train import train_on, with_paths


def train_folds(config: Config, *, run: Path, fold: str, restart: bool = False, dry_run: bool = False) -> Path:
    """Train one fold or all of them; with all, score every case by the run that did not train on it.

    The same call again goes on where it stopped; single folds, on other machines perhaps, may share the folder.

    Args:
        config: the experiment; `data.root` must be given.
        run: the folder of all folds.
        fold: a number from 0, or "all".
        restart: start these folds anew; with "all", divide the cases anew too.
        dry_run: as in `train`, of the first of these folds.

    Returns:
        The run folder.

    Raises:
        MedsegError: the config, the data, the folds or the folder do not fit, before anything expensive begins.
        PartialFailure: some held-out cases could not be scored; everything about the others is written.
    """
    if fold != "all" and not fold.isdigit():
        raise ConfigError(f"--fold {fold}", "give the number of a fold, from 0, or all")
    if (run / CONFIG).exists():
        raise RunError(f"{run}: this folder is a run without folds", "choose another with --run DIR")
    config = with_paths(config)
    dataset = read_data(config)
    if dry_run:
        count = len(config_folds(config, dataset).folds)
        rehearse(_of_fold(config, run, 0 if fold == "all" else int(fold), count), dataset)
        return run
    with process_group():
        folds = in_first_process(lambda: _open(config, run, dataset, anew=restart and fold == "all"))
        folds = folds or keep_folds(config, run, dataset)
        numbers = range(len(folds.folds)) if fold == "all" else [int(fold)]
        failures: list[Problem] = []
        for number in numbers:
            folds.fold(number, "--fold")
            settings = _of_fold(config, run, number, len(folds.folds))
            try:
                train_on(settings, dataset, run=run / f"fold_{number}", restart=restart)
            except PartialFailure as error:  # the other folds are worth their training all the same
                failures += error.problems
        if fold == "all" and rank() == 0:
            for last in (partial(evaluate_folds, report=run / REPORT), postprocess):
                try:
                    last(run)
                except PartialFailure as error:
                    failures += error.problems
    if failures:
        raise PartialFailure(failures)
    return run


def _open(config: Config, run: Path, dataset: Dataset, *, anew: bool) -> Folds:
    """The folds in the folder, which is made if it is not there.

    Args:
        anew: divide the cases again; what was decided on masks of the other networks goes.
    """
    run.mkdir(parents=True, exist_ok=True)
    if anew:
        for file in (run / DECISION_FILE, *run.glob(f"fold_*/{DECISION_FILE}")):
            file.unlink(missing_ok=True)
    folds = keep_folds(config, run, dataset, anew=anew)
    write_environment(run)
    for note in folds.notes:
        print(f"folds: {note}")
    return folds


def _of_fold(config: Config, run: Path, number: int, count: int) -> Config:
    """The config of one fold: its number, the folds of the folder, and the cache that all share."""
    file = run / FOLDS_FILE
    data = {
        "fold": number,
        "folds": count if config.data.folds_file is None else config.data.folds,
        "folds_file": str(file.resolve()) if file.exists() else config.data.folds_file,
        "cache": config.data.cache or str((run / "cache").resolve()),
    }
    return config.model_copy(update={"data": config.data.model_copy(update=data)})
