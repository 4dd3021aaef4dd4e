"""Where results may be written: every verb goes through the one door here first, before anything expensive begins.

Nothing is replaced that medseg did not write, or that somebody has changed since, nor what the same command reads; no
two results share a name; none leaves its folder, by its name or through a link. Who is inside is the only one to write
there.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import DataError, MedsegError, Problem
from medseg.core.files import WRITING
from medseg.core.lock import LOCK, writing_to
from medseg.core.written import digest_of, is_changed, written_down

ELSEWHERE = "give another --output DIR, or move it away"
RENAME = "rename one, or predict it alone"
LONGEST = 255  # bytes of a file's name, on nearly every file system
SHOWN = 5
ONE_NAME = "this disk takes large and small letters for the same"


@contextmanager
def door(
    folder: Path,
    check: Callable[[], object] = lambda: None,
    *,
    account: Iterable[str] = (),
    only: str = "",
    wait: float = 0.0,
    remedy: str = ELSEWHERE,
) -> Iterator[None]:
    """Be the only writer of a folder, once nothing speaks against writing there.

    Args:
        folder: it is made; where nothing is written to it, it goes again.
        check: raises whatever speaks against it, as `check_places` does; nothing is written before.
        account: files, by their paths from the folder, that people may change: the folder keeps their digests, so that
            `check_places` knows a changed one (see `core.written`).
        only: the one file in it that is written, where others may write others beside it.
        wait: seconds to wait for another process that writes there.
        remedy: where to write else.

    Raises:
        RunError: another process writes there, or the folder cannot be written to.
        MedsegError: as `check` raises it.
    """
    with writing_to(folder, remedy, only=only, wait=wait), written_down(folder, account):
        check()
        yield


@dataclass(frozen=True)
class Place:
    """A file that is going to be written.

    Args:
        path: the file.
        folder: that it has to be in, itself and not below.
        of: the case, picture or mask that it is made of.
        root: the folder that the user names, which may be a link; those below it may not.
        ours: medseg wrote a file of this name, by all signs.
        written: digests of what medseg wrote there; None: as the account of the folder says, if it has one.
    """

    path: Path
    folder: Path
    of: str
    root: Path | None = None
    ours: bool = False
    written: Collection[str] | None = None

    @property
    def changed(self) -> bool:
        """Whether medseg wrote what is there and somebody changed it since, so that it is theirs."""
        if self.written is None:
            return is_changed(self.root or self.folder, self.path)
        return self.path.is_file() and not is_empty(self.path) and digest_of(self.path) not in self.written


def check_places(
    places: Iterable[Place],
    inputs: Iterable[str | Path] = (),
    *,
    remedy: str = ELSEWHERE,
    error: type[MedsegError] = DataError,
) -> None:
    """Refuse the places that something speaks against; nothing is written.

    Args:
        inputs: files that the same command reads.
        remedy: where to write else.

    Raises:
        MedsegError: of the class `error`, with the first few of the problems and the number of the others.
    """
    read = {_real(path) for path in inputs}
    taken: dict[str, Place] = {}
    problems = []
    folds: dict[Path, bool] = {}
    for place in places:
        root = place.root or place.folder
        folded = folds[root] if root in folds else folds.setdefault(root, folds_case(root))
        name = os.path.normcase(place.path)
        other = taken.setdefault(_folded(name) if folded else name, place)
        if other is not place:
            what = f"would be the name of two: of {other.of} and of {place.of}"
            what += f" ({ONE_NAME})" * (other.path != place.path)
            problems.append(Problem(str(place.path), what, RENAME))
        elif problem := _against(place, read, remedy):
            problems.append(problem)
    if problems:
        rest = len(problems) - SHOWN
        raise error([*problems[:SHOWN], *([Problem("", f"and {rest} more")] if rest > 0 else [])])


def _against(place: Place, read: set[str], remedy: str) -> Problem | None:
    """What speaks against writing to a place, if anything does."""
    path, name = place.path, place.path.name
    if path.parent != place.folder or name in ("", ".", "..") or {"\0", "\\"} & set(str(name)):
        what = f"would not be a file in {place.folder}, but {str(path)!r}"
        return Problem(place.of, what, "rename it: no slashes, and no dots alone")
    if name.startswith(WRITING) or len(os.fsencode(name)) > LONGEST:
        what = "is too long for the name of a file" if len(os.fsencode(name)) > LONGEST else "is a name of medseg's own"
        return Problem(place.of, f"{name[:60]}: {what}", "rename it")
    below = [place.folder, *place.folder.parents] if place.root in place.folder.parents else []
    if links := [one for one in below if one != place.root and place.root in one.parents and one.is_symlink()]:
        return Problem(str(links[0]), "is a link: results would be written elsewhere", remedy)
    if _real(path) in read:
        return Problem(str(path), "would be overwritten, and is read by this same command", remedy)
    if path.is_symlink():
        return Problem(str(path), "is a link: what it points to is not medseg's", remedy)
    if path.is_dir():
        return Problem(str(path), "is a folder", remedy)
    if path.exists() and not place.ours and not is_empty(path):
        return Problem(str(path), "is there already, and medseg did not write it", remedy)
    if place.changed:
        return Problem(str(path), "was changed since medseg wrote it", remedy)
    return None


def folds_case(folder: Path) -> bool:
    """Whether the disk takes `a` for `A`, as those of macOS and Windows do; False while nobody has its lock."""
    return (folder / LOCK).exists() and (folder / LOCK.upper()).exists()


def _folded(name: str) -> str:
    """The same text of all names that such a disk takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def is_empty(path: Path) -> bool:
    """Whether a file holds nothing: whoever was about to write it did not come to it."""
    return path.is_file() and not path.stat().st_size


def _real(path: str | Path) -> str:
    return os.path.normcase(os.path.realpath(path))
