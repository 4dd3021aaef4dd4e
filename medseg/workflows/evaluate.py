"""`medseg evaluate`: scores on cases that training did not see, as a table and a report.

A run is scored on the cases that it holds out, a folder of folds on all cases, each by the fold that held it out,
several runs together on what none of them trained on. Of a run nothing is written but `eval/`, nothing with `output`.
A case of a single run, or of a fold, is predicted once: masks that the same weights have made are scored as they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.bundle.facts import reading_as
from medseg.bundle.run import run_compiled
from medseg.bundle.trained import Trained
from medseg.core.errors import ConfigError, DataError, PartialFailure, Problem, RunError, listed
from medseg.core.files import WRITING, move, writing_name
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset, read_dataset
from medseg.engine.device import of_first, of_first_process, process_group, speaks
from medseg.engine.places import door
from medseg.metrics.lesions import read_lesions
from medseg.metrics.table import MetricsTable
from medseg.runs.changes import Asked, check_listed, scored_cases, trained_on
from medseg.runs.decision import read_decided, say_cleaning
from medseg.runs.folder import Opened, read_run
from medseg.runs.folds import all_fold_runs, fold_runs
from medseg.runs.foreign import REPORT, TABLES, check_evaluation
from medseg.runs.kept import kept_masks, made_by
from medseg.runs.members import as_folders, channels_by_name, held_out_by_all, read_members, score_members
from medseg.runs.other_data import read_other
from medseg.runs.report import Results, Review
from medseg.runs.split import run_split


def evaluate(
    run: str | Path | Sequence[str | Path],
    *,
    data: str | Path | None = None,
    split: str | None = None,
    postprocess: bool = True,
    anew: bool = False,
    output: str | Path | None = None,
    accept_changes: bool = False,
    verify: bool = False,
) -> dict[str, Any]:
    """Score a run, the folds of a cross-validation, or several runs together.

    Args:
        run: the folder of a run, or of folds, or several.
        data: another data set, all of whose labelled cases are scored; default: the held-out cases of the run's own.
        split: an official split of the data set, for a single run; default: the held-out one.
        postprocess: False leaves out what `medseg postprocess` decided.
        anew: predict every case again; default: masks that the same weights have made already are scored.
        output: folder of masks, metrics.json, metrics.csv and report.html; default: `eval` in the (first) run, or
            `eval-NAME` of another data set or split.
        accept_changes: where the data have changed since a run was begun, score what it never trained on.
        verify: read every file to find out, whether or not anybody touched it.

    Returns:
        The summary of the metrics table.

    Raises:
        PartialFailure: some cases failed; everything about the others is written, the failed are in `failed.csv`.
        MedsegError: a folder is no run, its data have changed, or no case could be scored.
    """
    asked = Asked(accept=accept_changes, verify=verify)
    runs = as_folders(run)
    data, output = (None if path is None else Path(path) for path in (data, output))
    if output is not None:
        check_evaluation(output)
    options: dict[str, Any] = {"postprocess": postprocess, "output": output, "asked": asked}
    with process_group():
        if len(runs) == 1 and not fold_runs(runs[0]):
            return evaluate_run(runs[0], data=data, split=split, anew=anew, **options)
        if split is not None:
            raise ConfigError("--split is for a single run", "give the folder of the split as --data")
        if len(runs) == 1 and data is None:
            return evaluate_folds(runs[0], again=True, anew=anew, **options)
        return evaluate_together(runs, data=data, **options)


def evaluate_run(
    run: Path,
    *,
    data: Path | None = None,
    split: str | None = None,
    postprocess: bool = True,
    anew: bool = False,
    output: Path | None = None,
    report: Path | None = None,
    board: Path | None = None,
    opened: Opened | None = None,
    asked: Asked | None = None,
    cases: Sequence[Case] | None = None,
) -> dict[str, Any]:
    """As `evaluate`, of a single run.

    Args:
        report: the page; default: `report.html` in the output.
        board: a TensorBoard log that shows the pictures too.
        opened: the run, where it is open already.
        asked: what to do where the data have changed.
        cases: those to score, compared with the run's files already; default: they are found and compared.
    """
    trained = read_decided(run, postprocess)
    with reading_as(trained.config):
        names = ["eval", *([data.resolve().name] if data else []), *([split] if split else [])]
        own = run / "-".join(names)
        output = output or own
        dataset, (trained,) = (opened.dataset, [trained]) if opened else _dataset([trained], data)
        said: list[str] = []
        if split is not None or data is not None:
            cases = list(dataset.cases) if split is None else _official(dataset, split)
            said = of_first_process(lambda: _to_be_scored(trained, dataset, cases or (), data, split, asked))
        elif cases is None:
            cases = of_first_process(lambda: scored_cases(trained, dataset, asked, opened=opened is not None))
        as_opened = opened is not None and opened.run.config == trained.config  # nothing is decided on top of it
        content = opened.contents["evaluate"] if opened and as_opened else trained.compiled("evaluate")
        with process_group(), of_first(door(output, lambda: check_evaluation(output, masks=False), account=TABLES)):
            say_cleaning(trained.config)
            maker = of_first_process(lambda: made_by(trained, content))  # who has just written the last of the weights
            kept = () if anew else of_first_process(lambda: kept_masks((output, own), cases, maker))
            if kept and speaks():
                print(
                    f"{len(kept)} of {len(cases)} cases have masks by these weights: not predicted again (--anew does)"
                )
            objects = {"cases": tuple(cases), "kept": kept, "origin": maker, "output_dir": str(output)}
            cohort = run_compiled(content, **objects).get_parsed_content("cohort")
            shown = {case.name: case for case in cases}
            return Review(trained, output, shown, report or output / REPORT, board).conclude(
                Results.of(cohort), said=said
            )


def evaluate_folds(
    run: Path,
    *,
    again: bool = False,
    postprocess: bool = True,
    anew: bool = False,
    output: Path | None = None,
    report: Path | None = None,
    asked: Asked | None = None,
) -> dict[str, Any]:
    """One table, report and folder of masks of all cases, each scored by the fold that held it out.

    Args:
        run: the folder of a finished `train --fold all`.
        again: score every fold again; default: only those without a table, or with one of masks that were cleaned
            otherwise.
        postprocess: False leaves out what `medseg postprocess` decided.
        anew: of a fold that is scored again, predict every case again too.
        output: default `eval` in the run; elsewhere, each fold's own results stand in a folder of its name.
        report: the page; default: `report.html` in the output.
        asked: what to do where the data have changed, which is found out of all folds before the first one is scored.

    Returns:
        The summary of the table.

    Raises:
        RunError: a fold is not trained yet; the data have changed.
        PartialFailure: some cases could not be scored; the table is of the others.
    """
    runs = all_fold_runs(run)
    first = read_decided(runs[0], postprocess)
    with reading_as(first.config):
        folders = [(folder / "eval" if output is None else output / folder.name) for folder in runs]
        dataset, _ = _dataset([first], None)
        cases = {case.name: case for case in dataset.cases}
        held_out = of_first_process(lambda: [scored_cases(read_run(folder), dataset, asked) for folder in runs])
        failures: list[Problem] = []
        together = output or run / "eval"
        with process_group(), of_first(door(together, lambda: check_evaluation(together), account=TABLES)):
            scored = of_first_process(
                lambda: [_is_scored(*pair, postprocess) for pair in zip(runs, folders, strict=True)]
            )
            for folder, place, done, some in zip(runs, folders, scored, held_out, strict=True):
                if again or not done:
                    try:
                        evaluate_run(
                            folder, postprocess=postprocess, anew=anew, output=place, report=place / REPORT, cases=some
                        )
                    except PartialFailure as error:
                        failures += [problem for problem in error.problems if problem.where in cases]
            review = Review(replace(first, folder=run), together, cases, report or together / REPORT)
            summary = of_first_process(lambda: _conclude_folds(review, folders, failures))
    if failures:
        raise PartialFailure(failures, result=summary)
    return summary


def _conclude_folds(review: Review, folders: Sequence[Path], failures: Sequence[Problem]) -> dict[str, Any]:
    """The table of all folds, whose results stand in these folders; its summary."""
    tables = [MetricsTable.read(folder) for folder in folders]
    parts = [Results(table, read_lesions(folder)) for table, folder in zip(tables, folders, strict=True)]
    _collect_masks(folders, review.output / "masks")
    said = []
    for folder, table in zip(folders, tables, strict=True):
        dice = table.summary()["mean_dice"]
        name = folder.parent.name if folder.name == "eval" else folder.name
        mean = "-" if dice is None else f"{dice:.4f}"
        said.append(f"{name}: {len(table.cases)} cases held out, mean Dice {mean}")
    results = replace(Results.joined(parts), failures=failures)
    try:
        return review.conclude(results, joined=True, said=said, title="out-of-fold report")
    except PartialFailure as error:
        return error.result


def evaluate_together(
    runs: Sequence[Path],
    *,
    data: Path | None = None,
    postprocess: bool = True,
    output: Path | None = None,
    asked: Asked | None = None,
) -> dict[str, Any]:
    """Score several runs as one ensemble, on cases that none of them trained on.

    Several folders of folds: fold k of all of them on the cases that fold k holds out. Single runs: the cases that all
    of them hold out.

    Args:
        data: another data set, all of whose labelled cases are scored by all members together.
        postprocess: False leaves out what `medseg postprocess` decided; else the first run's decision counts.
        output: default `eval-ensemble-NAMES` in the first run.
        asked: what to do where the data have changed.

    Raises:
        RunError: there is no case that all members hold out, folds differ, or the runs do not fit together.
    """
    names = [run.resolve().name for run in runs[1:]] + ([data.resolve().name] if data is not None else [])
    output = output or runs[0] / "-".join(["eval-ensemble", *names])
    members = read_members(runs, postprocess)
    if any(member.facts.convention != "medical" for member in members):
        raise RunError("ensembles are scored per case, by the convention medical", "predict, then medseg score")
    with reading_as(members[0].config):
        dataset, members = _dataset(members, data)
        if data is not None:
            parts = [(members, list(dataset.cases))]
        elif all(fold_runs(run) for run in runs):
            parts = of_first_process(lambda: _by_fold(runs, dataset, postprocess, asked))
        else:
            parts = [(members, of_first_process(lambda: held_out_by_all(members, dataset, asked)))]
        seen = [] if data is None else of_first_process(lambda: _not_unseen(members, dataset.cases))
        with process_group(), of_first(door(output, lambda: check_evaluation(output, masks=False), account=TABLES)):
            say_cleaning(members[0].config)
            results = Results.joined([Results.of(score_members(group, cases, output)) for group, cases in parts])
            said = f"ensemble of {len(parts[0][0])} networks" + (f", in {len(parts)} folds" if len(parts) > 1 else "")
            cases = {case.name: case for case in dataset.cases}
            return Review(members[0], output, cases, output / REPORT).conclude(results, joined=True, said=[*seen, said])


def _to_be_scored(
    run: Trained, dataset: Dataset, cases: Sequence[Case], data: Path | None, split: str | None, asked: Asked | None
) -> list[str]:
    """A warning, as `_not_unseen`; raises where a list of the run's own data is not as it was."""
    if data is None and split is not None:
        check_listed(run, dataset, split, asked)
    return _not_unseen([run], cases)


def _not_unseen(members: Sequence[Trained], cases: Sequence[Case]) -> list[str]:
    """A warning where the weights have seen some of the cases that somebody wants to be scored."""
    seen = trained_on(members, cases)
    if not seen:
        return []
    return [f"NOT HELD OUT: {len(seen)} of {len(cases)} cases are images that were trained on: {listed(seen)}"]


def _dataset(members: Sequence[Trained], data: Path | None) -> tuple[Dataset, list[Trained]]:
    """Another data set, or the first run's own, and the runs as they understand its labels."""
    if data is not None:
        return read_other(members, data)
    own = members[0].config.data
    return read_dataset(str(own.root), own.layout, missing=channels_by_name(members) is not None), list(members)


def _official(dataset: Dataset, split: str) -> list[Case]:
    if not dataset.splits.get(split):
        known = ", ".join(f"{name} ({len(cases)})" for name, cases in dataset.splits.items()) or "none"
        raise DataError(
            Problem(str(dataset.root), f"has no labelled case in a split {split!r}", f"its splits: {known}")
        )
    return list(dataset.splits[split])


def _is_scored(folder: Path, scored: Path, postprocess: bool) -> bool:
    """Whether there is a table of this fold, of masks that were cleaned as they are now."""
    if not (scored / "metrics.json").is_file():
        return False
    steps = read_decided(folder, postprocess).config.inference.cleaning
    return MetricsTable.read(scored).postprocessing == steps


def _collect_masks(folders: Sequence[Path], together: Path) -> None:
    """All held-out masks, and their sidecars, in one folder, as links where the file system has them.

    It takes the place of the earlier one when it is whole.
    """
    together.parent.mkdir(parents=True, exist_ok=True)
    coming, going = (together.with_name(writing_name(together.name)) for _ in range(2))
    for folder in folders:
        masks = folder / "masks"
        for file in sorted(path for path in masks.rglob("*") if path.is_file() and not path.name.startswith(WRITING)):
            place = coming / file.relative_to(masks)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, place)
            except OSError:
                shutil.copyfile(file, place)
    if together.exists():
        move(together, going)
    if coming.exists():
        move(coming, together)
    shutil.rmtree(going, ignore_errors=True)


def _by_fold(
    runs: Sequence[Path], dataset: Dataset, postprocess: bool, asked: Asked | None
) -> list[tuple[list[Trained], list[Case]]]:
    """For each fold: that fold of all the folders, and the cases that all of them hold out."""
    members = [read_members([run], postprocess) for run in runs]
    found = [[run_split(member).validation for member in folds] for folds in members]
    for run, held_out in zip(runs[1:], found[1:], strict=True):
        if held_out != found[0]:
            remedy = "train both with the same --set data.folds_file=splits.json"
            raise RunError(Problem(str(run), f"has other folds than {runs[0]}", remedy))
    return [(list(group), held_out_by_all(group, dataset, asked)) for group in zip(*members, strict=True)]
