"""The files of a cache: which belong together, how large they are, when they were last used, and when they go.

Whoever uses an entry sets the time of its JSON file. An entry that nobody has used for `KEPT_DAYS` is removed when a
training opens the cache: it is of another preprocessing, of a file that has changed, or of a run that is over. Several
runs may share a cache, so being none of this run's is no reason to go. In a cache of another user one may do neither:
there nothing is noted, and nothing removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

KEPT_DAYS = 30
NOT_MINE = (errno.EACCES, errno.EPERM, errno.EROFS)  # a file, or a folder, of another user; a disk that is read-only
FILE = re.compile(r"(?P<key>[0-9a-f]{32})\.(json|(image|label|voxels)\.npy)")


@dataclass(frozen=True)
class Stored:
    """One entry: its files, the JSON file that makes it valid first; `used` in seconds since 1970.

    Args:
        stem: path of its files without their endings.
    """

    stem: Path
    files: tuple[Path, ...]
    size: int
    used: float

    def remove(self) -> bool:
        """Delete it; a process that has it mapped keeps its pages, and another computes it again.

        Returns:
            False where it is another user's, and stays.
        """
        with if_mine():
            for file in self.files:
                file.unlink(missing_ok=True)
            return True
        return False


def stored_entries(folder: Path) -> list[Stored]:
    """Every entry in a folder, whole or not; other files are none of its business."""
    groups: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (match := FILE.fullmatch(file.name)) and file.is_file() and not file.is_symlink():
            groups.setdefault(match["key"], []).append(file)
    entries = []
    for key, files in groups.items():
        states = [file.stat() for file in files]
        files.sort(key=lambda file: file.suffix != ".json")
        size, used = sum(state.st_size for state in states), max(state.st_mtime for state in states)
        entries.append(Stored(folder / key, tuple(files), size, used))
    return entries


def mark_used(stem: Path) -> None:
    """Note that an entry, if it is there, is used now; in another user's cache, which one may only read, nothing is."""
    with contextlib.suppress(FileNotFoundError), if_mine():
        os.utime(f"{stem}.json")


def remove_unused(folder: Path, stems: Collection[Path] = (), days: float = KEPT_DAYS) -> list[Stored]:
    """Delete the entries that nobody has used for so many days; returns those that went.

    Args:
        stems: of entries that are used now, whether or not that could be noted (see `mark_used`).
    """
    limit = time.time() - days * 24 * 3600
    unused = [entry for entry in stored_entries(folder) if entry.used < limit and entry.stem not in stems]
    return [entry for entry in unused if entry.remove()]


@contextlib.contextmanager
def if_mine() -> Iterator[None]:
    """Go on after the block where it may not change what is there."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_MINE:
            raise
