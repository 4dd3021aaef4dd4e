"""Several runs together: the folds of a cross-validation, or different networks, averaged in logit space."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.bundle.components import FOLDS_FILE
from medseg.bundle.ensemble import Member, write_ensemble
from medseg.bundle.run import run_bundle
from medseg.core.errors import PartialFailure, Problem, RunError
from medseg.core.files import replace_file
from medseg.data.cases.dataset import load_cases, named_cases
from medseg.data.cases.folds import read_folds
from medseg.engine.cohort import CohortReport
from medseg.engine.device import process_group, rank
from medseg.engine.machine import doctor
from medseg.metrics.lesions import lesion_text, write_lesions
from medseg.metrics.table import MetricsTable
from medseg.runs.decision import read_decided, say_cleaning
from medseg.workflows.evaluate import Review
from medseg.workflows.folds import evaluate_folds, fold_runs
from medseg.workflows.predict import run_inference, wished


def is_ensemble(runs: Sequence[Path]) -> bool:
    """Whether these folders are more than one run: several, or one of `train --fold`."""
    return len(runs) > 1 or any(fold_runs(run) for run in runs)


def predict_ensemble(
    runs: Sequence[Path],
    *,
    input: Path,
    output: Path,
    overwrite: bool = False,
    postprocess: bool = True,
    coding: str | None = None,
    probabilities: bool = False,
    uncertainty: bool = False,
) -> list[Path]:
    """As `predict`, by the mean of the logits of all runs; a folder of folds stands for all its folds.

    Raises:
        RunError: the runs do not predict the same targets from the same channels.
    """
    members = _members(runs, postprocess)
    facts = members[0].facts
    wishes = wished(facts, overwrite=overwrite, coding=coding, probabilities=probabilities, uncertainty=uncertainty)
    say_cleaning(members[0].config)
    with process_group(), tempfile.TemporaryDirectory() as folder:
        bundle = write_ensemble(members, output=Path(folder))
        print(f"ensemble of {len(members)} networks")
        return run_inference(bundle, len(facts.channels), input=input, output=output, wishes=wishes)


def evaluate_ensemble(runs: Sequence[Path], *, data: Path | None = None, postprocess: bool = True) -> dict[str, Any]:
    """Score an ensemble on cases that none of its members trained on, into a folder of the first run.

    One folder of folds: every case by the fold that held it out (`evaluate_folds`). Several: fold k of all of them
    together on the cases that fold k holds out. Single runs: the cases that all of them hold out.

    Args:
        data: another data set, all of whose labelled cases are scored by all members together.
        postprocess: False leaves out what `medseg postprocess` decided; else the first run's decision counts.

    Returns:
        The summary of the table.

    Raises:
        RunError: there is no case that all members hold out, folds differ, or the runs do not fit together.
        PartialFailure: some cases failed; everything about the others is written.
    """
    if len(runs) == 1 and data is None:
        return evaluate_folds(runs[0], again=True, postprocess=postprocess)
    names = [run.resolve().name for run in runs[1:]] + ([data.resolve().name] if data is not None else [])
    output = runs[0] / "-".join(["eval-ensemble", *names])
    members = _members(runs, postprocess)
    say_cleaning(members[0].config)
    if any(member.facts.convention != "medical" for member in members):
        raise RunError("ensembles are scored per case, by the convention medical", "predict, then medseg score")
    root = str((data or Path(str(members[0].config.data.root))).resolve())
    layout = members[0].config.data.layout if data is None else "auto"
    if data is not None:
        parts: list[tuple[list[Member], list[str]]] = [
            (members, [case.name for case in named_cases(root, layout)]),
        ]
    else:
        parts = (
            _by_fold(runs, root, postprocess)
            if all(fold_runs(run) for run in runs)
            else [(members, _held_out(members))]
        )
    scores, lesions, failures = [], [], []
    with process_group():
        for group, cases in parts:
            cohort = score_members(group, cases, root, output)
            failures += cohort.failures
            lesions += cohort.lesions
            if isinstance(cohort.table, MetricsTable):
                scores += cohort.table.scores
    if not scores:
        raise RunError([Problem(f.case, f.reason) for f in failures] or "there is no case to score")
    table = MetricsTable(scores, postprocessing=members[0].config.inference.cleaning)
    if rank() == 0:
        table.write(output)
        if lesions:
            write_lesions(lesions, output)
        replace_file(output / "environment.json", json.dumps(doctor(), indent=2, default=str) + "\n")
        listed = {case.name: case for case in load_cases(root, "all", layout=layout)}
        review = Review(output, output, members[0].config, members[0].facts, listed, own=True)
        review.medical(table)
        print(f"ensemble of {len(parts[0][0])} networks" + (f", in {len(parts)} folds" if len(parts) > 1 else ""))
        print(table.text())
        if lesions:
            print(lesion_text(lesions))
        print(f"report: {review.report}")
    if failures:
        raise PartialFailure([Problem(f.case, f.reason) for f in failures], result=table.summary())
    return table.summary()


def _members(runs: Sequence[Path], postprocess: bool) -> list[Member]:
    folders = [folder for run in runs for folder in (fold_runs(run) or [run])]
    return [Member(folder, *read_decided(folder, postprocess)) for folder in folders]


def score_members(members: Sequence[Member], cases: Sequence[str], root: str, output: Path) -> CohortReport:
    """Predict and score these cases by all members together; masks and table go to `output`."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_ensemble(members, output=Path(folder), cases=cases)
        workflow = run_bundle(bundle, "evaluate", dataset_dir=root, output_dir=str(output))
        return workflow.parser.get_parsed_content("handlers#1")


def _held_out(members: Sequence[Member]) -> list[str]:
    """The cases that none of the members trained on."""
    common: set[str] | None = None
    for member in members:
        data = member.config.data
        options: dict[str, Any] = {"patient_pattern": data.patient_pattern, "patient_table": data.patient_table}
        if data.fold is not None:
            options = {"folds_file": member.run / FOLDS_FILE, "fold": data.fold}
        section: Any = "validation" if data.holds_out else "unlabelled"
        cases = load_cases(str(data.root), section, data.layout, data.validation, member.config.seed, **options)
        names = {case.name for case in cases}
        common = names if common is None else common & names
    if not common:
        remedy = "give --data with other cases, or runs with the same held-out cases"
        raise RunError(Problem(str(members[0].run), "no case is held out by all runs of the ensemble", remedy))
    return sorted(common)


def _by_fold(runs: Sequence[Path], root: str, postprocess: bool) -> list[tuple[list[Member], list[str]]]:
    """For each fold: that fold of all the folders, and the cases that it holds out."""
    names = [case.name for case in named_cases(root)]
    found = [read_folds(run / FOLDS_FILE, names).folds for run in runs]
    for run, folds in zip(runs[1:], found[1:], strict=True):
        if folds != found[0]:
            remedy = "train both with the same --set data.folds_file=splits.json"
            raise RunError(Problem(str(run), f"has other folds than {runs[0]}", remedy))
    parts = []
    for number, fold in enumerate(found[0]):
        folders = [run / f"fold_{number}" for run in runs]
        members = [Member(folder, *read_decided(folder, postprocess)) for folder in folders]
        parts.append((members, list(fold.validation)))
    return parts
