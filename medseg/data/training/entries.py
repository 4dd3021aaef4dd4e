"""The files of a cache: which belong together, how large they are, when they were last used, and when they go.

Whoever uses an entry sets the time of its JSON file. An entry that nobody has used for `KEPT_DAYS` is removed when a
training opens the cache: it is of another preprocessing, of a file that has changed, or of a run that is over. Several
runs may share a cache, so being none of this run's is no reason to go.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

KEPT_DAYS = 30
FILE = re.compile(r"(?P<key>[0-9a-f]{32})\.(json|(image|label|voxels)\.npy)")


@dataclass(frozen=True)
class Stored:
    """One entry: its files, the JSON file that makes it valid first; `used` in seconds since 1970."""

    files: tuple[Path, ...]
    size: int
    used: float

    def remove(self) -> None:
        """Delete it; a process that has it mapped keeps its pages, and another computes it again."""
        for file in self.files:
            file.unlink(missing_ok=True)


def stored_entries(folder: Path) -> list[Stored]:
    """Every entry in a folder, whole or not; other files are none of its business."""
    groups: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (match := FILE.fullmatch(file.name)) and file.is_file() and not file.is_symlink():
            groups.setdefault(match["key"], []).append(file)
    entries = []
    for files in groups.values():
        states = [file.stat() for file in files]
        files.sort(key=lambda file: file.suffix != ".json")
        entries.append(Stored(tuple(files), sum(s.st_size for s in states), max(s.st_mtime for s in states)))
    return entries


def mark_used(stem: Path) -> None:
    """Note that an entry, if it is there, is used now; in another user's cache, which one may only read, nothing is."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        os.utime(f"{stem}.json")


def remove_unused(folder: Path, days: float = KEPT_DAYS) -> list[Stored]:
    """Delete the entries that nobody has used for so many days; returns them."""
    limit = time.time() - days * 24 * 3600
    unused = [entry for entry in stored_entries(folder) if entry.used < limit]
    for entry in unused:
        entry.remove()
    return unused
