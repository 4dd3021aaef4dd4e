"""`medseg train`: a config to a trained, evaluated, reviewable run, or to a run for each fold of a cross-validation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from medseg.bundle.facts import reading_as
from medseg.bundle.run import run_compiled
from medseg.config.load import load_config, start_override, start_with
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, PartialFailure, Problem, RunError
from medseg.core.files import absolute
from medseg.data.cases.dataset import Dataset
from medseg.data.splits.folds import FOLDS_FILE, NNUNET_FILE, Folds
from medseg.engine.device import in_first_process, of_first, of_first_process, process_group, rank, speaks
from medseg.engine.places import door
from medseg.networks.weights import absolute_weights
from medseg.planning.rehearse import rehearse
from medseg.runs.changes import Asked
from medseg.runs.disk import CACHE
from medseg.runs.files import complete_files
from medseg.runs.finder import train_finder
from medseg.runs.folder import (
    CONFIG,
    DECISION_FILE,
    RUNS,
    check_beginning,
    check_resumed,
    open_run,
    reopen_run,
    write_environment,
)
from medseg.runs.folds import config_folds, fold_folders, keep_folds
from medseg.runs.foreign import OF_BUNDLE, REPORT, check_folds, check_results, check_run
from medseg.runs.official import read_data
from medseg.runs.spent import Spent, read_spent
from medseg.workflows.evaluate import evaluate_folds, evaluate_run
from medseg.workflows.postprocess import postprocess

ANOTHER = "choose another with --run DIR"
PATIENCE = 30.0  # seconds to wait for who trains another fold of the folder, and writes beside them


def train(
    config: Config | str | Path,
    *,
    run: str | Path | None = None,
    fold: str | int | None = None,
    start: str | Path | None = None,
    restart: bool = False,
    dry_run: bool = False,
    accept_changes: bool = False,
    verify: bool = False,
) -> Path:
    """Train (or continue) the experiment, evaluate the weights that are kept and write the report.

    The same call on the same folder resumes a run that was interrupted, and trains a finished one longer when its
    budget was raised.

    Args:
        config: the experiment, its file, or the name of a shipped one; `data.root` must be given.
        run: the folder of the run; default `runs/NAME`.
        fold: hold out this fold, from 0, as a run of its own in the folder (single folds may share it); or "all": every
            fold in turn, then one table of all cases, each scored by the run that did not train on it.
        start: a finished run whose weights to begin with, on other data: channels and targets of the same names take
            theirs. Of a folder of folds, each fold begins with the fold of its number. What the config does not say of
            the network is as there.
        restart: start anew, removing the results of an earlier run in the folder; with "all" folds are made anew too.
        dry_run: only list the cases, build the network and time one step; nothing is written.
        accept_changes: where the data have changed since the run was begun, go on with what was never on the other side
            of the split.
        verify: read every file to find out, whether or not anybody touched it.

    Returns:
        The run folder.

    Raises:
        MedsegError: the config, the data, the folds or the folder do not fit, before anything expensive begins.
        PartialFailure: some held-out cases could not be scored; everything about the others is written.
    """
    if isinstance(config, Config):
        settings = with_paths(config if start is None else start_with(config, start))
    else:
        settings = with_paths(load_config(config, start_override(start)))
    folder = RUNS / settings.name if run is None else Path(run)
    asked = Asked(accept=accept_changes, verify=verify)
    with reading_as(settings):
        if fold is not None:
            return _train_folds(settings, folder, str(fold), restart=restart, dry_run=dry_run, asked=asked)
        dataset = read_data(settings)
        if dry_run:
            if speaks():
                rehearse(settings, dataset, folder)
        else:
            train_on(settings, dataset, run=folder, restart=restart, asked=asked)
    return folder


def _train_folds(config: Config, run: Path, fold: str, *, restart: bool, dry_run: bool, asked: Asked) -> Path:
    if fold != "all" and not fold.isdigit():
        raise ConfigError(f"--fold {fold}", "give the number of a fold, from 0, or all")
    if (run / CONFIG).exists():
        raise RunError(f"{run}: this folder is a run without folds", "choose another with --run DIR")
    dataset = read_data(config)
    if dry_run:
        number = 0 if fold == "all" else int(fold)
        if speaks():
            count = len(config_folds(config, dataset).folds)
            rehearse(_of_fold(config, run, number, count), dataset, run / f"fold_{number}")
        return run
    with process_group(), of_first(_of_folds(run, fold)):
        anew = restart and fold == "all"
        folds = in_first_process(lambda: _open(config, run, dataset, None if restart else fold, asked, anew=anew))
        folds = folds or keep_folds(config, run, None)
        numbers = range(len(folds.folds)) if fold == "all" else [int(fold)]
        failures: list[Problem] = []
        for number in numbers:
            folds.fold(number, "--fold")
            settings = _of_fold(config, run, number, len(folds.folds))
            try:
                # all folds end in a decision, made on masks before any: with one that is there they would end otherwise
                train_on(
                    settings,
                    dataset,
                    run=run / f"fold_{number}",
                    restart=restart,
                    asked=asked,
                    decided=fold != "all",
                )
            except PartialFailure as error:  # the other folds are worth their training all the same
                failures += error.problems
        if fold == "all":
            with of_first(door(run, account=[REPORT], wait=PATIENCE, remedy=ANOTHER)):
                first = partial(of_first_process, partial(postprocess, run))
                for last in (partial(evaluate_folds, run, postprocess=False, report=run / REPORT), first):
                    try:
                        last()
                    except PartialFailure as error:
                        failures += error.problems
    if failures:
        raise PartialFailure(failures)
    return run


def _open(config: Config, run: Path, dataset: Dataset, fold: str | None, asked: Asked, *, anew: bool) -> Folds:
    """The folds in the folder, which is made if it is not there.

    Args:
        fold: which of them goes on, so that its data are compared before anything is written; None: none.
        anew: divide the cases again; what was decided on masks of the other networks goes.
    """
    check_folds(run)
    if anew:
        check_beginning(config, dataset, run)
    begun = [folder for folder in fold_folders(run) if fold == "all" or folder.name == f"fold_{fold}"]
    checked = [check_resumed(folder, config, dataset, asked) for folder in begun] if fold is not None else []
    with door(run, partial(check_results, run), account=[NNUNET_FILE], wait=PATIENCE, remedy=ANOTHER):
        folds = keep_folds(config, run, None if any(checked) else dataset, anew=anew)
        if anew:  # nothing is removed before the new folds are there
            for file in (folder / DECISION_FILE for folder in (run, *fold_folders(run))):
                file.unlink(missing_ok=True)
        write_environment(run, config)
    for note in folds.notes:
        print(f"folds: {note}")
    return folds


def _of_fold(config: Config, run: Path, number: int, count: int) -> Config:
    """The config of one fold: its number, the folds of the folder, and the cache that all share."""
    file, training = run / FOLDS_FILE, config.training
    if training.start is not None and (folder := Path(training.start) / f"fold_{number}").is_dir():
        training = training.model_copy(update={"start": str(folder)})
    data = {
        "fold": number,
        "folds": count if config.data.folds_file is None else config.data.folds,
        "folds_file": str(file.resolve()) if file.exists() else config.data.folds_file,
        "cache": config.data.cache or str((run / CACHE).resolve()),
    }
    return config.model_copy(update={"data": config.data.model_copy(update=data), "training": training})


def train_on(
    config: Config,
    dataset: Dataset,
    *,
    run: Path,
    restart: bool = False,
    asked: Asked | None = None,
    decided: bool = True,
) -> None:
    """As `train`, one run, on a data set that is read already.

    Args:
        decided: clean the masks that are scored as `medseg postprocess` decided, if it did.
    """
    with process_group(), of_first(_of_run(run)):
        started = time.perf_counter()
        opened = in_first_process(lambda: open_run(config, run, dataset, restart=restart, asked=asked))
        opened = opened or reopen_run(run, dataset)
        found = None if opened.run.finder is None else train_finder(opened.run.finder, opened)
        parser = run_compiled(opened.contents["train"], data=dataset, split=opened.split)
        spent = Spent.of(parser.get_parsed_content("budget"))
        spent = spent if found is None else found + spent
        in_first_process(lambda: complete_files(opened.run))
        del parser  # and with it what training held in memory
        trained = time.perf_counter()
        failure: PartialFailure | None = None
        try:
            evaluate_run(run, opened=opened, postprocess=decided, report=run / REPORT, board=run / "tensorboard")
        except PartialFailure as error:
            failure = error
        if rank() == 0:
            _keep_spent(run, replace(spent, scoring=time.perf_counter() - trained))
        if failure is not None:
            raise failure
        if rank() == 0:
            print(f"finished in {(time.perf_counter() - started) / 60:.1f} min: {run}")


@contextmanager
def _of_run(run: Path) -> Iterator[None]:
    """Be the only one who trains in the folder, if it is a run or becomes one."""
    check_run(run, CONFIG)
    with door(run, lambda: check_results(run, bundled=True), account=(*OF_BUNDLE, REPORT), remedy=ANOTHER):
        yield


@contextmanager
def _of_folds(run: Path, fold: str) -> Iterator[None]:
    """Be the only one who trains these folds, before anything beside them is written; of all, those that are there."""
    check_folds(run)
    with ExitStack() as writing:
        for folder in fold_folders(run) if fold == "all" else [run / f"fold_{int(fold)}"]:
            check_run(folder, CONFIG)
            writing.enter_context(door(folder, remedy=ANOTHER))
        yield


def _keep_spent(run: Path, spent: Spent) -> None:
    """Write and say it; a call that did not train any further leaves what is written of the scoring."""
    before = read_spent(run)
    if before is None or before.training != spent.training:
        spent.write(run)
    else:
        spent = before
    print(spent.text())


def with_paths(config: Config) -> Config:
    """The config with absolute paths of its data and of the weights to begin with, so that it holds from anywhere."""
    root, source = config.data.root, absolute_weights(config.network.pretrained)
    start = None if config.training.start is None else str(Path(config.training.start).resolve())
    network = config.network.model_copy(update={"pretrained": source})
    config = config.model_copy(
        update={"network": network, "training": config.training.model_copy(update={"start": start})}
    )
    return config if root is None else with_root(config, absolute(root))


def with_root(config: Config, root: Path) -> Config:
    """The config with another `data.root`."""
    return config.model_copy(update={"data": config.data.model_copy(update={"root": str(root)})})
