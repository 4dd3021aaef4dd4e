"""`medseg postprocess`: which steps on finished masks help, tried on the out-of-fold masks of a cross-validation.

Nothing is predicted again (but for `--crf`): the masks that the evaluation of the folds saved are cleaned and scored.
runs/brain/postprocessing.json holds the decision and the evidence, and so does every fold's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from medseg.bundle.compile import RAW_MASKS
from medseg.bundle.facts import DataFacts, config_dataset, reading_as
from medseg.bundle.trained import Trained
from medseg.config.crf import CRFConfig, CRFName
from medseg.config.postprocess import PostprocessConfig, Step, with_step
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, PartialFailure, Problem, RunError, did_you_mean
from medseg.core.labels import Labels
from medseg.core.parallel import in_processes
from medseg.data.cases.case import Case
from medseg.engine.origin import ORIGIN, is_of_image
from medseg.engine.outputs import mask_paths
from medseg.engine.places import door
from medseg.engine.sidecar import read_sidecar
from medseg.runs.changes import Asked, held_out
from medseg.runs.decision import SCHEMA, Decision
from medseg.runs.disposable import CRF_TRIAL
from medseg.runs.folder import DECISION_FILE, read_run
from medseg.runs.folds import fold_runs
from medseg.runs.foreign import check_decision
from medseg.runs.members import score_members
from medseg.selection.evidence import RULE, Trials, choose, judge, plain
from medseg.selection.trial import TrialCase, attempt, candidates, survey

SHOWN = 5
ELSEWHERE = "copy the folder to where it can be written to"
AGAIN = "medseg evaluate --run FOLDS --no-postprocess"


@dataclass(frozen=True)
class FoldRun:
    """One fold: its folder, number and held-out cases (by name), some of which have changed since, as was accepted."""

    folder: Path
    number: int
    cases: Mapping[str, Case]
    changed: frozenset[str] = frozenset()


def postprocess(
    run: Path,
    *,
    crf: str | None = None,
    workers: int | None = None,
    accept_changes: bool = False,
    verify: bool = False,
) -> dict[str, Any]:
    """Try every step on the out-of-fold masks, and write down what is kept and why.

    Args:
        run: the folder of a `train --fold all`.
        crf: a published set of parameters of the dense CRF, which is tried first; every held-out case is predicted
            again with it (slow). None: not tried.
        workers: processes; the decision does not depend on it.
        accept_changes: where the data have changed since the folds were begun, decide on what they never trained on.
        verify: read every file to find out, whether or not anybody touched it.

    Returns:
        The content of `postprocessing.json`.

    Raises:
        RunError: no folds, masks are missing, or were made with an earlier decision's CRF; not the convention medical;
            another process writes to the folder, or trains a fold.
        PartialFailure: cases without a mask were left out; the decision is written.
    """
    runs = fold_runs(run)
    if len(runs) < 2:
        raise RunError(f"{run}: holds fewer than two trained folds", "give the folder of a `medseg train --fold all`")
    first = read_run(runs[0])
    if first.facts.convention != "medical":
        raise RunError("post-processing is chosen by scores per case, of the convention medical", "predict without it")
    with reading_as(first.config), ExitStack() as writing:
        for folder in (run, *runs):
            writing.enter_context(door(folder, account=[DECISION_FILE], remedy=ELSEWHERE))
        check_decision((run, *runs), DECISION_FILE, SCHEMA)
        return _decide(run, runs, first, crf, workers, Asked(accept=accept_changes, verify=verify))


def _decide(
    run: Path, runs: Sequence[Path], first: Trained, crf: str | None, workers: int | None, asked: Asked
) -> dict[str, Any]:
    config, facts = first.config, first.facts
    folds = [fold_run(folder, asked) for folder in runs]
    cases, missing = _saved_masks(folds, config)
    base = PostprocessConfig(**config.inference.cleaning)
    decided, evidence = _decide_crf(crf, folds, cases, config, facts, base, workers)
    if decided is not None:
        cases = _crf_cases(cases)
    found = _decide_steps(cases, facts.labels, base, workers)
    steps = [step for step in found.pop("steps").steps if step not in base.steps]
    kept = reduce(with_step, steps, PostprocessConfig())
    evidence = {"cases": len(cases), "folds": len(folds), "convention": "medical", **found, **evidence}
    evidence["left_out"] = [problem.where for problem in missing]
    decision = Decision(**{"schema": SCHEMA, "steps": kept, "crf": decided, "evidence": evidence})
    for folder in (run, *runs):  # the first one decides, the others are copies
        decision.write(folder)
    print(_text(decision, run))
    result: dict[str, Any] = json.loads(decision.model_dump_json(by_alias=True))
    if missing:
        raise PartialFailure(missing, result=result)
    return result


def fold_run(folder: Path, asked: Asked) -> FoldRun:
    """The fold in this folder, with what of its data set it holds out; raises as `held_out`."""
    run = read_run(folder)
    found = held_out(run, config_dataset(run.config), asked)
    return FoldRun(folder, run.config.data.fold or 0, {case.name: case for case in found.cases}, found.changed)


def _saved_masks(folds: Sequence[FoldRun], config: Config) -> tuple[list[TrialCase], list[Problem]]:
    """The masks of the evaluation of every fold, as they were before any step, and the cases that have none."""
    cases, missing, refined = [], [], []
    wanted = None if config.inference.crf is None else config.inference.crf.parameters
    for fold in folds:
        for name, case in fold.cases.items():
            masks = fold.folder / "eval" / "masks"
            sidecar = read_sidecar(masks, name)
            if "postprocessing" in sidecar:
                masks = fold.folder / "eval" / RAW_MASKS
            (mask,) = mask_paths(masks, name, case.first)
            if not mask.is_file():
                missing.append(Problem(name, f"has no mask: {mask}", f"{AGAIN} predicts it"))
            elif name in fold.changed and not is_of_image(sidecar.get(ORIGIN, {}), case.images):
                what = f"is another image than that of its mask: {mask}"
                missing.append(Problem(name, what, f"{AGAIN} --accept-changes predicts it"))
            elif sidecar.get("model", {}).get("crf") != wanted:
                refined.append(name)
            else:
                cases.append(TrialCase(name, fold.number, str(mask), str(case.label), config.image_dims))
    if refined:
        what = f"{len(refined)} masks were predicted with another CRF than the config asks for"
        raise RunError(Problem(", ".join(refined[:SHOWN]), what, f"{AGAIN} predicts them anew"))
    if not cases or {case.fold for case in cases} != {fold.number for fold in folds}:
        raise RunError(missing[:SHOWN])
    return cases, missing


def _trials(cases: Sequence[TrialCase], labels: Labels, workers: int | None) -> Trials:
    def run(sets: Sequence[PostprocessConfig]) -> np.ndarray:
        work = partial(attempt, labels=labels, sets=tuple(one.cleaning for one in sets))
        results = in_processes(work, cases, workers)
        shown = tqdm(results, f"trying {len(sets)} sets of steps", len(cases), unit="case", disable=None, leave=False)
        return np.stack(list(shown), 1)

    return Trials(run, list(labels.targets), np.array([case.fold for case in cases]))


def _decide_steps(
    cases: Sequence[TrialCase], labels: Labels, base: PostprocessConfig, workers: int | None
) -> dict[str, Any]:
    surveys = list(in_processes(partial(survey, labels=labels), cases, workers))
    trials = _trials(cases, labels, workers)
    choice = choose(trials, candidates(surveys, trials.targets), base)
    before, after = trials.of([base, choice.steps])
    return {"steps": choice.steps, **plain(choice, before, after, trials.targets)}


def _decide_crf(
    name: str | None,
    folds: Sequence[FoldRun],
    cases: Sequence[TrialCase],
    config: Config,
    facts: DataFacts,
    base: PostprocessConfig,
    workers: int | None,
) -> tuple[CRFConfig | None, dict[str, Any]]:
    """The CRF refines all targets at once, so it is kept for all or for none."""
    if name is None:
        return None, {}
    if config.inference.crf is not None:
        raise ConfigError(
            "the config asks for inference.crf already", "take --crf away, or train with inference.crf null"
        )
    if name not in get_args(CRFName):
        raise ConfigError(f"--crf {name}: no such set of parameters", did_you_mean(name, get_args(CRFName)))
    settings = CRFConfig.model_validate({"parameters": name})
    for fold in folds:
        own = read_run(fold.folder)
        inference = own.config.inference.model_copy(update={"crf": settings, **PostprocessConfig().model_dump()})
        member = replace(own, config=own.config.model_copy(update={"inference": inference}))
        there = [fold.cases[case.case] for case in cases if case.fold == fold.number]
        cohort = score_members([member], there, fold.folder / CRF_TRIAL)
        if cohort.failures:
            raise RunError([Problem(f.case, f.reason) for f in cohort.failures])
    before, after = (_trials(group, facts.labels, workers).of([base])[0] for group in (cases, _crf_cases(cases)))
    targets = list(facts.labels.targets)
    judged = [judge(Step("crf", target), before, after, targets) for target in targets]
    falls = [one.step.target for one in judged if one.gain < 0]
    kept = any(one.kept for one in judged) and not falls
    rows = {
        one.step.target: {"dice_before": one.before, "dice_after": one.after, "cases_better": one.better}
        | {"cases_worse": one.worse, "why": one.why}
        for one in judged
    }
    return settings if kept else None, {"crf_tried": {"parameters": name, "kept": kept, "targets": rows}}


def _crf_cases(cases: Sequence[TrialCase]) -> list[TrialCase]:
    """The same cases, with the masks that were predicted with the CRF."""
    moved = []
    for case in cases:
        mask = Path(case.mask)
        moved.append(replace(case, mask=str(mask.parents[2] / CRF_TRIAL / "masks" / mask.name)))
    return moved


def _text(decision: Decision, run: Path) -> str:
    """The decision for a terminal."""
    evidence = decision.evidence
    lines = [f"{'target':20} Dice before   after  held out   invented parts   kept"]
    for target, row in evidence["targets"].items():
        own = [str(step) for step in decision.steps.steps if step.target == target]
        dice = [
            ("-" if row[f"dice_{key}"] is None else f"{row[f'dice_{key}']:.4f}")
            for key in ("before", "after", "held_out")
        ]
        parts = f"{row['invented'][0]} -> {row['invented'][1]}"
        note = row.get("dropped", "")
        lines.append(
            f"{target:20} {dice[0]:>11} {dice[1]:>7} {dice[2]:>9}   {parts:14}   {', '.join(own) or note or '-'}"
        )
    tried = evidence.get("crf_tried")
    if tried:
        lines.append(f"dense CRF ({tried['parameters']}): {'kept' if tried['kept'] else 'not kept'}")
    lines += [
        f"{evidence['cases']} cases in {evidence['folds']} folds; {len(evidence['tried'])} trials. A step is {RULE}.",
        f"post-processing: {decision.words()} ({run / 'postprocessing.json'}: predict and evaluate use it)",
    ]
    return "\n".join(lines)
