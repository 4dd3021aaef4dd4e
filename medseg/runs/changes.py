"""Whether a run's data are still those that it was begun with, asked before anything is written.

What is safe is let through: a data set that was moved, files that somebody touched or copied, cases that were added
(they are on neither side). Anything else is refused, case by case, or, where it is asked for, accepted: then the run
trains on, and scores, only images that were never on the other side. A run older than `files.json` is "unverified".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medseg.bundle.facts import DataFacts, describe_data
from medseg.bundle.trained import Trained
from medseg.core.errors import Problem, RunError, listed
from medseg.core.parallel import every_result
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.data.files.digests import CaseState, hashed
from medseg.data.splits.split import Part, Split
from medseg.engine.device import speaks
from medseg.runs.files import RunFiles, files_of, known_now, read_files
from medseg.runs.split import run_split

SHOWN = 5
LEARNT: tuple[Part, ...] = ("training", "validation")
REMEDY = "bring the data back; or --accept-changes, which leaves out whatever was on the other side; or train anew"
LABELS_REMEDY = "the weights mean what the data said then: bring that back, or train anew with another --run DIR"
UNVERIFIED = "unverified: this run does not know the files that it was begun with, so changes of its data go unnoticed"


@dataclass(frozen=True)
class Asked:
    """What a person said of changes.

    Args:
        accept: go on with what was never on the other side.
        verify: read every file for it, whether or not anybody touched it.
    """

    accept: bool = False
    verify: bool = False


@dataclass(frozen=True)
class Compared:
    """Cases of a run now: their files, with the digests that had to be known, and what is not as it was."""

    now: Mapping[str, CaseState]
    changes: Mapping[str, Sequence[str]]
    gone: frozenset[str]

    @property
    def names(self) -> list[str]:
        """Of all cases that are not as they were."""
        return [*self.changes, *sorted(self.gone)]

    def refuse(self, run: Trained, remedy: str = REMEDY) -> None:
        """Raise a RunError that says what changed, if anything did."""
        if not self.names:
            return
        counts = [f"{len(self.changes)} cases have other files"] if self.changes else []
        counts += [f"{len(self.gone)} are gone"] if self.gone else []
        first = Problem(str(run.folder), f"the data are not those that this run was begun with: {', '.join(counts)}")
        told = [Problem(name, "; ".join(what)) for name, what in self.changes.items()]
        told += [Problem(name, "is not in the data set any more") for name in sorted(self.gone)]
        more = [Problem("", f"and {len(told) - SHOWN} more")] if len(told) > SHOWN else []
        raise RunError([first, *told[:SHOWN], *more, Problem("", "nothing was written", remedy)])


def compare(files: RunFiles, cases: Iterable[Case], names: Iterable[str], *, verify: bool = False) -> Compared:
    """These cases with what the run knows of them.

    Args:
        cases: those that are there now.
        names: all of which the run asks.

    Raises:
        DataError: files are missing, or cannot be read.
    """
    there = {case.name: case for case in cases}
    both = [name for name in there if name in files.cases]
    found = every_result(lambda name: there[name].state().compared(files.cases[name], verify=verify), both)
    pairs = dict(zip(both, found, strict=True))
    changes = {name: what for name, (_, what) in pairs.items() if what}
    gone = frozenset(name for name in names if name not in there)
    return Compared({name: state for name, (state, _) in pairs.items()}, changes, gone)


def check_facts(run: Trained, facts: DataFacts) -> None:
    """Raise a RunError where the classes or channels of the data are not those that the weights were trained with."""
    before, told = run.facts, []
    if facts.channels != before.channels:
        told.append(f"channels are {', '.join(facts.channels)}, and were {', '.join(before.channels)}")
    old, new = before.labels.classes, facts.labels.classes
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            now = next((other for other, value in new.items() if value == old[name] and other not in old), None)
            told.append(f"class {name!r} ({old[name]}) " + (f"is called {now!r} now" if now else "is gone"))
        elif name not in old:
            told.append(f"class {name!r} ({new[name]}) is new")
        elif new[name] != old[name]:
            told.append(f"class {name!r} is {new[name]}, and was {old[name]}")
    if not told and facts.labels.to_plain() != before.labels.to_plain():
        told.append("regions, or the values that are merged or ignored, are others")
    if told:
        where = str(run.folder)
        raise RunError([*(Problem(where, what) for what in told), Problem("", "nothing was written", LABELS_REMEDY)])


def resumed(run: Trained, dataset: Dataset, split: Split, asked: Asked) -> tuple[Split, RunFiles]:
    """The split and the files with which the training of a run goes on; nothing is written.

    Raises:
        RunError: the data have changed, unless that is accepted; nothing of a side is left.
    """
    there = {part: split.present(dataset, part) for part in LEARNT}
    cases = [case for part in LEARNT for case in there[part]]
    files = read_files(run.folder)
    if files is None:
        say(UNVERIFIED)
        return split, files_of(dataset, cases, whole=False)
    if not files.whole:
        say(UNVERIFIED)
    files = known_now(run, files)
    found = compare(files, cases, (*split.training, *split.validation), verify=asked.verify)
    if not asked.accept:
        found.refuse(run)
    if not found.names:
        return split, replace(files, root=str(dataset.root), cases={**files.cases, **found.now})
    changed = {name: found.now[name].each(hashed) for name in found.changes}
    others = {"training": files.of_held_out(split), "validation": files.of_training(split)}
    out = set(found.gone)
    for part in ("validation", "training"):
        for name in getattr(split, part):
            if name in changed and (changed[name].identity in others[part] or not all_known(files, split)):
                out.add(name)
            elif name in changed and part == "validation":
                others["training"].add(changed[name].identity)
    before = {name: files.cases[name].identity for name in found.names if name in files.cases}
    kept = split.without(out)
    _say_left_out(out)
    if not kept.training or bool(split.validation) != bool(kept.validation):
        raise RunError(Problem(str(run.folder), "no case of a side of the split is left", "train anew, with --restart"))
    states = {name: state for name, state in ({**files.cases, **found.now, **changed}).items() if name not in out}
    return kept, RunFiles(
        str(dataset.root),
        states,
        files.whole,
        files.trained_on | {before[name] for name in split.training if name in before} - {""},
        files.held_out | {before[name] for name in split.validation if name in before} - {""},
    )


def scored_cases(run: Trained, dataset: Dataset, asked: Asked | None = None, *, opened: bool = False) -> list[Case]:
    """What an evaluation of the run scores: the cases that it holds out, or all, where it holds none out.

    Args:
        opened: for training, by the same command: it has said already what a person should know.

    Raises:
        RunError: they have changed, unless that is accepted; then those that were trained on are left out.
    """
    asked = asked or Asked()
    split = run_split(run, dataset)
    if not opened:
        check_data(run, dataset)
    files = read_files(run.folder)
    if files is None or not files.whole:
        say(UNVERIFIED, unless=opened)
    if files is None:
        return split.cases(dataset, split.scored)
    cases, names = split.present(dataset, split.scored), getattr(split, split.scored)
    files = known_now(run, files)
    found = compare(files, cases, names, verify=asked.verify)
    if not asked.accept:
        found.refuse(run)
    out = set()
    if split.validation:
        seen = files.of_training(split)
        for name in found.changes:
            if not all_known(files, split) or found.now[name].each(hashed).identity in seen:
                out.add(name)
    _say_left_out(out | found.gone)
    left = [case for case in cases if case.name not in out]
    if not left:
        raise RunError(Problem(str(run.folder), "no case is left that it never trained on", "bring its data back"))
    return left


def check_data(run: Trained, dataset: Dataset) -> None:
    """As `check_facts`, of a data set that names its classes itself (what a card says does not depend on the data)."""
    if run.config.data.card is None and dataset.labels.classes:
        check_facts(run, describe_data(run.config, dataset))


def trained_on(members: Sequence[Trained], cases: Sequence[Case]) -> list[str]:
    """Names of those cases whose images a member was trained on, under whatever name, as far as its digests tell.

    Only files are read that are as large as one of the training.
    """
    seen, sizes, history = set[str](), set[tuple[int, ...]](), False
    every = [read_files(member.folder) for member in members]
    say(UNVERIFIED, unless=all(files is not None and files.whole for files in every))
    for member, files in zip(members, every, strict=True):
        if files is None:
            continue
        files, split = known_now(member, files), run_split(member)
        seen |= files.of_training(split)
        history = history or bool(files.trained_on)
        sizes |= {_sizes(files.cases[name]) for name in split.training if name in files.cases}

    def look(case: Case) -> bool:
        state = case.state()
        return (history or _sizes(state) in sizes) and state.each(hashed).identity in seen

    found = every_result(look, cases) if seen else []
    return [case.name for case, one in zip(cases, found, strict=False) if one]


def _sizes(state: CaseState) -> tuple[int, ...]:
    return tuple(file.touched[1] for image in state.images if image is not None for file in image.files)


def all_known(files: RunFiles, split: Split) -> bool:
    """Whether every image has a digest, so that it is found again under another name."""
    return all(files.cases[name].identity for name in (*split.training, *split.validation) if name in files.cases)


def say_added(dataset: Dataset, split: Split) -> None:
    """Say which labelled cases are on no side: the data set has got them since."""
    known = {name for part in split.parts for name in part} | {n for part in split.left_out.values() for n in part}
    if not split.official and (added := [case.name for case in dataset.cases if case.name not in known]):
        say(f"{len(added)} cases are on neither side of the split, since it was decided without them: {listed(added)}")


def _say_left_out(names: Iterable[str]) -> None:
    if out := sorted(names):
        say(f"accepted: {len(out)} cases are left out, gone or once on the other side: {listed(out)}")


def say(text: str, *, unless: bool = False) -> None:
    if speaks() and not unless:
        print(f"note: {text}")
