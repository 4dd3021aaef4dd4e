"""`files.json`: the files that a run was trained and scored on, each with a digest of its content.

A digest is that of the moment when the file was read for the cache, so it costs no reading of its own. Between the
beginning of a training and its end some may not be known yet; until then a file is known by its size and its times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.bundle.trained import Trained
from medseg.core.errors import Problem, RunError
from medseg.core.files import readable, replace_file
from medseg.core.parallel import every_result
from medseg.core.sealed import sealed, unsealed
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.data.files.digests import CaseState, FileState, hashed, state_of, with_digests
from medseg.data.splits.split import Split
from medseg.data.training.cache import known_digests
from medseg.runs.disk import cache_folder
from medseg.runs.split import FILES

SCHEMA = "medseg-files/1"
KEYS = {"schema", "root", "whole", "trained_on", "held_out", "cases"}


@dataclass(frozen=True)
class RunFiles:
    """What a run has read.

    Args:
        root: of the data set, for a person.
        cases: those of the split, name -> their files.
        whole: whether that was noted from the first epoch on; a run that is older was begun on files nobody knows.
        trained_on, held_out: identities of images that were on this side once, under whatever name, and are not among
            `cases` any more.
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
        return {self.cases[name].identity for name in names if name in self.cases} - {""}

    def each(self, change: Callable[[FileState], FileState]) -> RunFiles:
        """With every file changed so."""
        cases = list(self.cases)
        changed = every_result(lambda name: self.cases[name].each(change), cases)
        return RunFiles(self.root, dict(zip(cases, changed, strict=True)), self.whole, self.trained_on, self.held_out)

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
    try:
        content = unsealed(readable(run / FILES).read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}, expected {SCHEMA!r}")
        if content.keys() != KEYS:
            raise ValueError(f"expected the keys {', '.join(sorted(KEYS))}")
        cases = {str(name): CaseState.from_plain(case) for name, case in content["cases"].items()}
        sides = (frozenset(map(str, content[side])) for side in ("trained_on", "held_out"))
        return RunFiles(str(content["root"]), cases, bool(content["whole"]), *sides)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "bring the file back from a copy of the run; without it, nobody can say whether the data are the same"
        raise RunError(Problem(str(run / FILES), f"damaged: {error}", remedy)) from None


def files_of(dataset: Dataset, cases: Iterable[Case], *, whole: bool = True) -> RunFiles:
    """These cases as they are on disk, without digests.

    Raises:
        DataError: of all cases that lack files.
    """
    cases = list(cases)
    states = every_result(Case.state, cases)
    return RunFiles(str(dataset.root), {case.name: one for case, one in zip(cases, states, strict=True)}, whole)


def known_now(run: Trained, files: RunFiles) -> RunFiles:
    """The same with digests of all files: those that the cache has noted, and of files nobody touched since their own.

    A file that was touched before anybody noted its digest stays without: it may not be what was read.
    """
    if all(file.sha256 for case in files.cases.values() for file in case.files):
        return files
    for stage in run.stages:
        files = files.each(with_digests(known_digests(cache_folder(stage.config, stage.folder))))
    return files.each(_unless_touched)


def complete_files(run: Trained) -> None:
    """Note the digests of all files that the run has just read."""
    files = read_files(run.folder)
    if files is not None and (known := known_now(run, files)) != files:
        known.write(run.folder)


def _unless_touched(file: FileState) -> FileState:
    if file.sha256 or not Path(file.path).is_file() or state_of(file.path).touched != file.touched:
        return file
    now = hashed(file)
    return now if now.touched == file.touched else file
