"""`medseg clean`: what of a run can be made again, how much room it takes, and away with it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.core.machine import size_text
from medseg.engine.places import door
from medseg.runs.disposable import AGAIN, Disposable, disposable, shared_caches
from medseg.runs.folds import fold_folders


@dataclass(frozen=True)
class Cleaning:
    """What can be made again, or, once it is `freed`, what was removed.

    Args:
        shared: caches outside the folder, which are left alone.
    """

    run: Path
    found: tuple[Disposable, ...]
    shared: tuple[Path, ...]
    freed: bool

    @property
    def size(self) -> int:
        """Bytes of everything that was found."""
        return sum(one.size for one in self.found)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = [{"kind": one.kind, "path": str(one.place), "bytes": one.size} for one in self.found]
        shared = [str(cache) for cache in self.shared]
        return {"run": str(self.run), "bytes": self.size, "freed": self.freed, "found": found, "shared_caches": shared}

    def text(self) -> str:
        """For a terminal: each with its size, then what will have to be made again."""
        lines = [f"{size_text(one.size):>9}  {one.kind:10} {one.place}" for one in self.found]
        kinds = dict.fromkeys(one.kind for one in self.found)
        lines += [f"{kind}: {AGAIN[kind]}" for kind in kinds]
        lines += [f"not touched, since other runs may share it: the cache {cache}" for cache in self.shared]
        if not self.found:
            return "\n".join([f"{self.run}: nothing can be made again", *lines])
        return "\n".join([*lines, f"{size_text(self.size)} {'freed' if self.freed else 'can be freed'}"])


def clean(run: Path, *, free: bool = False) -> Cleaning:
    """Look for what a later training or evaluation can make again in a run, or in a folder of folds.

    Args:
        free: remove it too.

    Raises:
        RunError: the folder is neither, something cannot be removed, or another process writes there.
    """
    found = tuple(disposable(run))
    if free:
        with ExitStack() as writing:
            for folder in (run, *fold_folders(run)):
                writing.enter_context(door(folder, remedy="whose files are they?"))
            for one in found:
                one.remove()
    return Cleaning(run, found, tuple(shared_caches(run)), free)
