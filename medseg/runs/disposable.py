"""What of a run can be made again: the one place that decides what `medseg clean` may remove.

Not weights, checkpoints, configs, splits, tables, reports or masks, whatever could be made again of those: only what a
later training or evaluation makes by itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.bundle.compile import RAW_MASKS
from medseg.bundle.trained import WEIGHTS
from medseg.core.errors import Problem, RunError
from medseg.core.files import LOG, WRITING
from medseg.data.splits.folds import FOLDS_FILE
from medseg.data.training.entries import stored_entries
from medseg.runs.disk import CACHE, cache_folder
from medseg.runs.folder import CONFIG, read_run
from medseg.runs.folds import fold_folders
from medseg.runs.foreign import REPORT

CRF_TRIAL = "eval-crf"  # of a fold: masks that `medseg postprocess --crf` predicted and scored
TEMPORARY = (f"{WRITING}*", "*.pt.tmp")  # the second, of checkpoints of older versions
LEFT_OVER_SECONDS = 3600  # a file that is being written changes more often

AGAIN = {
    "cache": "the next training preprocesses the cases again",
    "raw masks": "medseg postprocess needs them: evaluate --no-postprocess predicts them again",
    "CRF trial": "medseg postprocess --crf predicts them again",
    "error log": "tracebacks of commands that failed, for a report of it",
    "temporary": "left over from something that was interrupted; nothing needs them",
}


@dataclass(frozen=True)
class Disposable:
    """Files and folders of one kind (of `AGAIN`) in one place."""

    kind: str
    place: Path
    paths: tuple[Path, ...]
    size: int

    def remove(self) -> None:
        """Delete them, and their place if nothing else is in it.

        Raises:
            RunError: a file cannot be deleted.
        """
        try:
            for path in self.paths:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if self.kind == "cache" and not any(self.place.iterdir()):
                self.place.rmdir()
        except OSError as error:
            what = f"cannot be removed: {error.strerror or error}"
            raise RunError(Problem(str(error.filename or self.place), what, "whose file is it?")) from error


def disposable(folder: Path) -> list[Disposable]:
    """Everything in a run, or in a folder of folds and its folds, that can be made again; nothing outside, no links.

    Raises:
        RunError: the folder is neither.
    """
    runs = _runs(folder)
    inside = [cache for cache in _caches(folder, runs) if cache.resolve().is_relative_to(folder.resolve())]
    found = [one for cache in inside for one in _cache(cache)]
    if runs != [folder]:
        found += _temporary(folder)
    return [*found, *(one for run in runs for one in _of_run(run)), *_logs(folder)]


def shared_caches(folder: Path) -> list[Path]:
    """The caches that a run, or a folder of folds, uses outside its folder, where other runs may share them."""
    caches = _caches(folder, _runs(folder))
    return [cache for cache in caches if not cache.resolve().is_relative_to(folder.resolve())]


def _caches(folder: Path, runs: Sequence[Path]) -> list[Path]:
    """Those that the runs use, wherever they lie, each once; of a folder of folds, the one that is its own too."""
    used = [cache_folder(stage.config, stage.folder) for run in runs for stage in read_run(run).stages]
    own = [] if folder in runs else [folder / CACHE]
    return sorted({cache.resolve(): cache for cache in (*own, *used)}.values())


def _runs(folder: Path) -> list[Path]:
    """The run itself, or the folds of a folder of folds, trained or not."""
    if (folder / FOLDS_FILE).is_file() and not (folder / CONFIG).exists():
        return [fold for fold in fold_folders(folder) if (fold / CONFIG).is_file() and not fold.is_symlink()]
    return [folder]


def _of_run(run: Path) -> Iterator[Disposable]:
    if (run / WEIGHTS).is_file():  # else nothing can predict them again
        for evaluation in sorted(run.glob("eval*")):
            if not evaluation.is_symlink():
                yield from _folder("raw masks", evaluation / RAW_MASKS)
        if not (run / CRF_TRIAL / REPORT).exists():  # then it is an evaluation of a data set called crf
            yield from _folder("CRF trial", run / CRF_TRIAL)
    yield from _temporary(run)


def _cache(folder: Path) -> Iterator[Disposable]:
    """Its entries alone: a config may name any folder as the cache."""
    if not folder.is_symlink() and (entries := stored_entries(folder)):
        files = tuple(file for entry in entries for file in entry.files)
        yield Disposable("cache", folder, files, sum(entry.size for entry in entries))


def _folder(kind: str, folder: Path) -> Iterator[Disposable]:
    if folder.is_dir() and not folder.is_symlink():
        files = [file for file in folder.rglob("*") if file.is_file()]
        yield Disposable(kind, folder, (folder,), sum(file.lstat().st_size for file in files))


def _logs(folder: Path) -> Iterator[Disposable]:
    """What commands that failed left in the folder that they wrote to."""
    files = tuple(file for file in sorted(folder.rglob(f"{LOG}*.log")) if file.is_file() and not file.is_symlink())
    if files:
        yield Disposable("error log", folder, files, sum(file.lstat().st_size for file in files))


def _temporary(folder: Path) -> Iterator[Disposable]:
    """What was being written when something was killed: of a folder of folds, what is beside the folds."""
    limit = time.time() - LEFT_OVER_SECONDS
    old: dict[Path, list[Path]] = {}
    for file in sorted(file for pattern in TEMPORARY for file in folder.rglob(pattern)):
        of_fold = (folder / file.relative_to(folder).parts[0] / CONFIG).is_file()
        if not of_fold and file.is_file() and file.lstat().st_mtime < limit:
            old.setdefault(file.parent, []).append(file)
    for place, files in old.items():
        yield Disposable("temporary", place, tuple(files), sum(file.lstat().st_size for file in files))
