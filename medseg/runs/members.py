"""One run or several together: who they are, which cases none of them trained on, and what they make of cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.bundle.ensemble import compile_members
from medseg.bundle.run import run_compiled
from medseg.bundle.trained import Trained
from medseg.core.errors import Problem, RunError, listed
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.engine.cohort import CohortReport
from medseg.runs.changes import Asked, all_known, check_data, compare, say, trained_on
from medseg.runs.decision import read_decided
from medseg.runs.files import known_now, read_files
from medseg.runs.folds import fold_runs
from medseg.runs.split import run_split


def as_folders(run: str | Path | Sequence[str | Path]) -> list[Path]:
    """One folder or several, as paths.

    Raises:
        RunError: there is none.
    """
    folders = [Path(run)] if isinstance(run, str | Path) else [Path(one) for one in run]
    if not folders:
        raise RunError("no run is given", "give the folder of a `medseg train`")
    return folders


def read_members(runs: Sequence[Path], postprocess: bool = True) -> list[Trained]:
    """The runs in these folders; a folder of folds stands for all its folds."""
    folders = [folder for run in runs for folder in (fold_runs(run) or [run])]
    return [read_decided(folder, postprocess) for folder in folders]


def channels_by_name(members: Sequence[Trained]) -> list[str] | None:
    """The names of the channels, where cases may lack some: all members were trained for it. Else None."""
    able = all(member.config.training.lacks_channels for member in members)
    return list(members[0].facts.channels) if able else None


def held_out_by_all(members: Sequence[Trained], dataset: Dataset, asked: Asked | None = None) -> list[Case]:
    """The cases that every member holds out; whoever holds nothing out trained on all labelled cases.

    A case that a member was trained on under another name, as its image shows, is none of them.

    Raises:
        RunError: there is none; they are not those that a member was begun with, unless that is accepted.
    """
    asked = asked or Asked()
    splits = [run_split(member) for member in members]
    trained = {name for split in splits for name in (*split.training, *split.shared(dataset))}
    common = set(splits[0].validation).intersection(*(split.validation for split in splits)) - trained
    for member in members:
        check_data(member, dataset)
    cases = [case for case in splits[0].present(dataset, "validation") if case.name in common]
    out = common - {case.name for case in cases}
    for member, split in zip(members, splits, strict=True):
        if (files := read_files(member.folder)) is not None:
            files = known_now(member, files, split)
            found = compare(files, cases, common, verify=asked.verify)
            if not asked.accept:
                found.refuse(member)
            out |= set() if all_known(files, split) else set(found.changes)
    out |= set(trained_on(members, cases))
    if dropped := sorted(out):
        why = "since they are gone or a member was trained on them"
        say(f"{len(dropped)} cases are not scored, {why}: {listed(dropped)}")
    left = [case for case in cases if case.name not in out]
    if not left:
        remedy = "give --data with other cases, or runs with the same held-out cases"
        raise RunError(Problem(str(members[0].folder), "no case is held out by all runs of the ensemble", remedy))
    return left


def score_members(members: Sequence[Trained], cases: Sequence[Case], output: Path) -> CohortReport:
    """Predict and score these cases by all members together; masks and table go to `output`."""
    content = compile_members("evaluate", members)
    return run_compiled(content, cases=tuple(cases), output_dir=str(output)).get_parsed_content("cohort")
