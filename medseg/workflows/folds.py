"""`medseg train --fold k | all`: a cross-validation, every fold a run of its own, and one table of all held-out cases.

runs/brain/  splits.json  fold_0/ ... fold_4/  cache/  eval/{metrics.json,metrics.csv,masks/}  report.html
             postprocessing.json
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from medseg.bundle.components import FOLDS_FILE
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, PartialFailure, Problem, RunError
from medseg.core.files import replace_file
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import load_cases
from medseg.engine.device import process_group, rank
from medseg.engine.machine import doctor
from medseg.metrics.lesions import lesion_text, read_lesions, write_lesions
from medseg.metrics.table import MetricsTable
from medseg.runs.decision import DECISION_FILE, read_decided
from medseg.runs.folder import read_run
from medseg.runs.folds import find_folds, keep_folds
from medseg.workflows.evaluate import Review, evaluate
from medseg.workflows.train import train, with_root


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
    from medseg.workflows.postprocess import postprocess  # which itself needs this module

    if config.data.root is None:
        raise ConfigError("data.root: the folder of the data set is not given", "add --set data.root=DIR")
    if fold != "all" and not fold.isdigit():
        raise ConfigError(f"--fold {fold}", "give the number of a fold, from 0, or all")
    if (run / "config.yaml").exists():
        raise RunError(f"{run}: this folder is a run without folds", "choose another with --run DIR")
    config = with_root(config, Path(config.data.root).resolve())
    if dry_run:
        count = len(find_folds(config).folds)
        train(_of_fold(config, run, 0 if fold == "all" else int(fold), count), run=run, dry_run=True)
        return run
    with process_group():
        if rank() == 0:
            run.mkdir(parents=True, exist_ok=True)
            if restart and fold == "all":  # decided on masks of other networks
                for file in (run / DECISION_FILE, *run.glob(f"fold_*/{DECISION_FILE}")):
                    file.unlink(missing_ok=True)
            folds = keep_folds(config, run, anew=restart and fold == "all")
            for note in folds.notes:
                print(f"folds: {note}")
        else:
            folds = find_folds(config)
        numbers = range(len(folds.folds)) if fold == "all" else [int(fold)]
        failures: list[Problem] = []
        for number in numbers:
            folds.fold(number, "--fold")
            settings = _of_fold(config, run, number, len(folds.folds))
            try:
                train(settings, run=run / f"fold_{number}", restart=restart)
            except PartialFailure as error:  # the other folds are worth their training all the same
                failures += error.problems
        if fold == "all" and rank() == 0:
            for last in (evaluate_folds, postprocess):
                try:
                    last(run)
                except PartialFailure as error:
                    failures += error.problems
    if failures:
        raise PartialFailure(failures)
    return run


def fold_runs(run: Path) -> list[Path]:
    """The runs of the folds in a folder, in their order; none if it is no folder of folds."""
    if not (run / FOLDS_FILE).is_file() or (run / "config.yaml").exists():
        return []
    found = [folder for folder in run.glob("fold_*") if (folder / "models" / "model.pt").is_file()]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix("fold_")))


def held_out_cases(folder: Path) -> tuple[int, dict[str, Case]]:
    """The number of a fold, and the cases that it holds out, by name."""
    data = read_run(folder)[0].data
    fold = data.fold or 0
    cases = load_cases(str(data.root), "validation", data.layout, folds_file=folder / FOLDS_FILE, fold=fold)
    return fold, {case.name: case for case in cases}


def evaluate_folds(run: Path, *, again: bool = False, postprocess: bool = True) -> dict[str, Any]:
    """One table, report and folder of masks of all cases, each scored by the fold that held it out: `eval/`.

    Args:
        run: the folder of a finished `train_folds`.
        again: predict and score every fold again; default: only those without a table, or with one of masks that were
            cleaned otherwise.
        postprocess: False leaves out what `medseg postprocess` decided.

    Returns:
        The summary of the table.

    Raises:
        RunError: a fold is not trained yet.
        PartialFailure: some cases could not be scored; the table is of the others.
    """
    runs = fold_runs(run)
    config, facts = read_decided(runs[0], postprocess) if runs else _no_folds(run)
    wanted = len(json.loads((run / FOLDS_FILE).read_text())["folds"])
    if len(runs) < wanted:
        missing = sorted({f"fold_{n}" for n in range(wanted)} - {folder.name for folder in runs})
        raise RunError(f"{run}: not trained yet: {', '.join(missing)}", "medseg train --fold all goes on with them")
    tables: list[MetricsTable] = []
    failures: list[Problem] = []
    for folder in runs:
        if again or not _is_scored(folder, postprocess):
            try:
                evaluate(folder, postprocess=postprocess)
            except PartialFailure as error:
                failures += error.problems
        tables.append(MetricsTable.read(folder / "eval"))
    common: dict[str, Any] = {"convention": tables[0].convention, "postprocessing": tables[0].postprocessing}
    table = MetricsTable([score for part in tables for score in part.scores], **common)
    output = run / "eval"
    table.write(output)
    lesions = [score for folder in runs for score in read_lesions(folder / "eval")]
    if lesions:
        write_lesions(lesions, output)
    _collect_masks(runs, output / "masks")
    replace_file(run / "environment.json", json.dumps(doctor(), indent=2, default=str) + "\n")
    cases = {c.name: c for c in load_cases(str(config.data.root), "all", layout=config.data.layout)}
    review = Review(run, output, config, facts, cases, own=True)
    review.medical(table)
    for folder, part in zip(runs, tables, strict=True):
        dice = part.summary()["mean_dice"]
        print(f"{folder.name}: {len(part.cases)} cases held out, mean Dice {'-' if dice is None else f'{dice:.4f}'}")
    print(table.text())
    if lesions:
        print(lesion_text(lesions))
    print(f"out-of-fold report: {review.report}")
    if failures:
        raise PartialFailure(failures, result=table.summary())
    return table.summary()


def _is_scored(folder: Path, postprocess: bool) -> bool:
    """Whether there is a table of this fold, of masks that were cleaned as they are now."""
    if not (folder / "eval" / "metrics.json").is_file():
        return False
    steps = read_decided(folder, postprocess)[0].inference.cleaning
    return MetricsTable.read(folder / "eval").postprocessing == steps


def _no_folds(run: Path) -> Any:
    raise RunError(f"{run}: holds no trained fold", "give the folder of a `medseg train --fold all`")


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


def _collect_masks(runs: list[Path], folder: Path) -> None:
    """All held-out masks in one folder, as links where the file system has them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for run in runs:
        for file in sorted((run / "eval" / "masks").iterdir()):
            try:
                os.link(file, folder / file.name)
            except OSError:
                shutil.copyfile(file, folder / file.name)
