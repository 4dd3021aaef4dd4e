"""Whether a run's data are still those that it was begun with, asked before anything is written.

What is safe is let through: a data set that was moved, files that somebody touched or copied, cases that were added
(they are on neither side). Anything else is refused, case by case, or, where it is asked for, accepted: then the run
trains on, and scores, only images that were never on the other side. A run older than `files.json` is "unverified".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from medseg.bundle.facts import DataFacts, describe_data
from medseg.bundle.trained import Trained
from medseg.core.errors import Problem, RunError, listed
from medseg.core.parallel import every_result
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.data.files.digests import CaseState, hashed
from medseg.data.splits.split import PARTS, Part, Split
from medseg.engine.device import speaks
from medseg.runs.files import RunFiles, files_of, known_now, read_files
from medseg.runs.seen import Seen
from medseg.runs.split import run_split

SHOWN = 5
LEARNT: tuple[Part, ...] = ("training", "validation")
REMEDY = "bring the data back; or --accept-changes, which leaves out whatever was on the other side; or train anew"
BRING_BACK = "bring its data back; or train anew on data whose list to train on holds none of those to validate on"
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
        DataError: none of what is held out could be scored, since the run trains on all of it.
    """
    if split.validation and {*split.validation} <= {*split.shared(dataset)}:
        split.check_apart(dataset)
    there = {part: split.present(dataset, part) for part in LEARNT}
    cases = [case for part in LEARNT for case in there[part]]
    files = read_files(run.folder)
    if files is None:
        say(UNVERIFIED)
        return split, files_of(dataset, cases, whole=False)
    if not files.whole:
        say(UNVERIFIED)
    files = known_now(run, files, split)
    found = compare(files, cases, (*split.training, *split.validation), verify=asked.verify)
    if not asked.accept:
        found.refuse(run)
    if not found.names:
        return split, replace(files, root=str(dataset.root), cases={**files.cases, **found.now})
    files = known_now(run, files, split, test=True)
    changed = {name: found.now[name].each(hashed) for name in found.changes}
    others = {"training": files.of_held_out(split), "validation": files.of_training(split)}
    out = set(found.gone)
    for part in ("validation", "training"):
        for name in getattr(split, part):
            if name in changed and (changed[name].is_among(others[part]) or not all_known(files, split)):
                out.add(name)
            elif name in changed and part == "validation":
                others["training"] |= changed[name].identities
    before = {name: files.cases[name].identities for name in found.names if name in files.cases}
    kept = split.without(out)
    _say_left_out(out)
    if not kept.training or bool(split.validation) != bool(kept.validation):
        raise RunError(Problem(str(run.folder), "no case of a side of the split is left", "train anew, with --restart"))
    states = {name: state for name, state in ({**files.cases, **found.now, **changed}).items() if name not in out}
    return kept, RunFiles(
        str(dataset.root),
        states,
        files.whole and files.are_known(out),  # what nobody knows is not found again under another name
        files.trained_on.union(*(before[name] for name in split.training if name in before)),
        files.held_out.union(*(before[name] for name in split.validation if name in before)),
    )


def scored_cases(run: Trained, dataset: Dataset, asked: Asked | None = None, *, opened: bool = False) -> list[Case]:
    """The cases that `held_out` tells."""
    return list(held_out(run, dataset, asked, opened=opened).cases)


@dataclass(frozen=True)
class HeldOut:
    """What an evaluation of a run scores, and which of it is not as it was (which was accepted)."""

    cases: Sequence[Case]
    changed: frozenset[str] = frozenset()


def held_out(run: Trained, dataset: Dataset, asked: Asked | None = None, *, opened: bool = False) -> HeldOut:
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
    twins = set(split.shared(dataset))
    if files is None:
        return HeldOut(_without(run, split.cases(dataset, split.scored), twins))
    cases, names = split.present(dataset, split.scored), getattr(split, split.scored)
    files = known_now(run, files, split)
    found = compare(files, cases, names, verify=asked.verify)
    if not asked.accept:
        found.refuse(run)
    out = set()
    if split.validation:
        seen = files.of_training(split)
        for name in found.changes:
            if not all_known(files, split) or found.now[name].each(hashed).is_among(seen):
                out.add(name)
        twins |= {name for name, now in found.now.items() if name not in found.changes and now.is_among(seen)}
    _say_left_out(out | found.gone)
    left = [case for case in cases if case.name not in out]
    return HeldOut(_without(run, left, twins), frozenset(found.changes))


def _without(run: Trained, cases: Sequence[Case], twins: Set[str]) -> list[Case]:
    """The cases without those that were trained on from the beginning, which is said; a RunError if none is left."""
    what = f"{len(twins)} held-out cases are images that were trained on too, and not scored"
    say(f"{what}: {listed(sorted(twins))}", unless=not twins)
    left = [case for case in cases if case.name not in twins]
    if not left:
        raise RunError(Problem(str(run.folder), "no case is left that it never trained on", BRING_BACK))
    return left


def check_listed(run: Trained, dataset: Dataset, name: str, asked: Asked | None = None) -> None:
    """Raise a RunError where the cases of an official list of the run's data are not as they were when it was begun."""
    asked, split, files = asked or Asked(), run_split(run, dataset), read_files(run.folder)
    parts = [part for part in PARTS if split.official.get(part) == name]
    check_data(run, dataset)
    if files is None or asked.accept:
        return
    for part in parts:
        files = known_now(run, files, split)
        names = [one for one in getattr(split, part) if one in files.cases]
        compare(files, split.present(dataset, part), names, verify=asked.verify).refuse(run)


def check_data(run: Trained, dataset: Dataset) -> None:
    """As `check_facts`, of a data set that names its classes itself (what a card says does not depend on the data)."""
    if run.config.data.card is None and dataset.labels.classes:
        check_facts(run, describe_data(run.config, dataset))


def trained_on(members: Sequence[Trained], cases: Sequence[Case]) -> list[str]:
    """Names of those cases whose images a member was trained on, under whatever name, as far as its digests tell."""
    seen = Seen.by(members)
    say(UNVERIFIED, unless=seen.verified)
    return seen.among(cases)


def all_known(files: RunFiles, split: Split) -> bool:
    """Whether every image that ever was on a side has a digest, so that it is found again under another name."""
    return files.whole and files.are_known((*split.training, *split.validation))


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
