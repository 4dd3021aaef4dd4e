"""`files.json`: the files that a run was trained and scored on, each with a digest of its content.

A digest is that of the moment when the file was read for the cache, so it costs no reading of its own. Between the
beginning of a training and its end some may not be known yet; until then a file is known by its size and its times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medseg.bundle.trained import Trained
from medseg.core.files import replace_file
from medseg.core.parallel import every_result
from medseg.core.sealed import sealed
from medseg.core.stored import Stored, read_sealed
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.data.files.digests import CaseFiles, CaseState, FileState, Touched, hashed, state_of, with_digests
from medseg.data.splits.split import Split
from medseg.data.training.cache import known_digests
from medseg.runs.disk import cache_folder
from medseg.runs.split import FILES, run_split

SCHEMA = "medseg-files/1"
REMEDY = "bring the file back from a copy of the run; without it, nobody can say whether the data are the same"


@dataclass(frozen=True)
class RunFiles:
    """What a run has read.

    Args:
        root: of the data set, for a person.
        cases: those of the split, name -> their files.
        whole: whether all of them are noted; a run that is older was begun on files nobody knows, and of an image that
            was left out nobody may have read the digest.
        trained_on, held_out: identities of images that were on this side once, under whatever name, and are not among
            `cases` any more. Those of the runs whose weights this one began with were trained on too.
    """

    root: str
    cases: Mapping[str, CaseState]
    whole: bool = True
    trained_on: frozenset[str] = field(default_factory=frozenset)
    held_out: frozenset[str] = field(default_factory=frozenset)

    def of_training(self, split: Split) -> set[str]:
        """Identities of all images that the weights may have seen."""
        return self._identities(split.training) | self.trained_on

    def of_held_out(self, split: Split) -> set[str]:
        """Identities of all images that were scored as unseen."""
        return self._identities((*split.validation, *split.test)) | self.held_out

    def _identities(self, names: Iterable[str]) -> set[str]:
        return set().union(*(self.cases[name].identities for name in names if name in self.cases))

    def are_known(self, names: Iterable[str]) -> bool:
        """Whether every image of these has a digest, so that it is found again under another name."""
        return all(self.cases[name].is_known for name in names if name in self.cases)

    def each(self, change: Callable[[FileState], FileState], names: Iterable[str]) -> RunFiles:
        """With every file of these cases changed so."""
        there = [name for name in names if name in self.cases]
        changed = every_result(lambda name: self.cases[name].each(change), there)
        return replace(self, cases={**self.cases, **dict(zip(there, changed, strict=True))})

    def write(self, run: Path) -> None:
        content: dict[str, Any] = {"schema": SCHEMA, "root": self.root, "whole": self.whole}
        content |= {"trained_on": sorted(self.trained_on), "held_out": sorted(self.held_out)}
        content["cases"] = {name: case.to_plain() for name, case in self.cases.items()}
        replace_file(run / FILES, sealed(content))


def read_files(run: Path) -> RunFiles | None:
    """What `RunFiles.write` wrote; None of a run that is older than that.

    Raises:
        RunError: the file is damaged.
    """
    if not (run / FILES).is_file():
        return None
    said = read_sealed(run / FILES, _FilesFile, "not what a run knows of its files", REMEDY)
    cases = {name: case.state for name, case in said.cases.items()}
    return RunFiles(said.root, cases, said.whole, said.trained_on, said.held_out)


class _FilesFile(Stored):
    """What `RunFiles.write` writes."""

    schema_name: Literal["medseg-files/1"] = Field(alias="schema")
    root: str
    whole: bool
    trained_on: frozenset[str]
    held_out: frozenset[str]
    cases: dict[str, CaseFiles]


def files_of(dataset: Dataset, cases: Iterable[Case], *, whole: bool = True) -> RunFiles:
    """These cases as they are on disk, without digests.

    Raises:
        DataError: of all cases that lack files.
    """
    cases = list(cases)
    states = every_result(Case.state, cases)
    return RunFiles(str(dataset.root), {case.name: one for case, one in zip(cases, states, strict=True)}, whole)


def known_now(run: Trained, files: RunFiles, split: Split, *, test: bool = False) -> RunFiles:
    """The same with digests of all files: those that the cache has noted, and of files nobody touched since their own.

    A file that was touched before anybody noted its digest stays without: it may not be what was read.

    Args:
        test: of those of the official test too, which no training reads.
    """
    names = [*split.training, *split.validation]
    if any(not file.sha256 for name in names if name in files.cases for file in files.cases[name].files):
        files = files.each(with_digests(_noted(run)), names)
    return files.each(_unless_touched, [*names, *split.test] if test else names)


def complete_files(run: Trained) -> None:
    """Note the digests of all files that the run has just read: as they were then, if they had changed until then."""
    if (files := read_files(run.folder)) is None:
        return
    split, noted = run_split(run), _noted(run)

    def as_read(file: FileState) -> FileState:
        if file.sha256 or file.touched in noted or not Path(file.path).is_file():
            return file
        now = state_of(file.path)
        return replace(now, sha256=noted[now.touched]) if now.touched in noted else file

    known = known_now(run, files.each(as_read, [*split.training, *split.validation]), split)
    if known != files:
        known.write(run.folder)


def _noted(run: Trained) -> dict[Touched, str]:
    """The digests in the caches of its stages."""
    folders = [cache_folder(stage.config, stage.folder) for stage in run.stages]
    return {touched: digest for folder in folders for touched, digest in known_digests(folder).items()}


def _unless_touched(file: FileState) -> FileState:
    if file.sha256 or not Path(file.path).is_file() or state_of(file.path).touched != file.touched:
        return file
    now = hashed(file)
    return now if now.touched == file.touched else file
