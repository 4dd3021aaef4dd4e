"""Files that appear whole, under their name, or not at all: a reader, or a crash, never finds half of one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from medseg.core.errors import DataError, Problem, RunError
from medseg.core.owner import Owner, owner_died

WRITING = ".writing-"  # how the name of a file begins that is not whole yet
LOG = "medseg-error-"  # and that of the traceback of a command that failed
ENDING = 32  # characters of a name that the name of a file that is not whole yet ends with, among them its ending

announced: list[Callable[[Path, Path], None]] = []  # told of a file, and of what is about to take its place
_numbers = count()
_swept: set[tuple[int, Path]] = set()


def writing_name(name: str) -> str:
    """What a file is called until it is whole: as no other of any process, with the ending of `name`."""
    return f"{WRITING}{Owner.this().tag}-{next(_numbers)}-{name[-ENDING:]}"


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that are no more were writing into a folder (not below it)."""
    for file in folder.glob(f"{WRITING}*"):
        tag = "-".join(file.name.removeprefix(WRITING).split("-")[:3])
        if owner_died(tag):
            with suppress(OSError):  # another process has just removed it, or it is not ours to remove
                shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()


def _sweep_once(folder: Path) -> None:
    """As `sweep`, the first time that this process writes into the folder."""
    if (key := (os.getpid(), folder)) not in _swept:
        _swept.add(key)
        sweep(folder)


PASSED = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")  # what a shell hands over, which does end


def readable(path: Path) -> Path:
    """The path itself, to be opened: of a named pipe, a device or a socket nobody knows when it ends.

    Raises:
        OSError: it is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir() and not str(path).startswith(PASSED):
        raise OSError(errno.ESPIPE, "no file but a pipe or a device", str(path))
    return path


def absolute(path: str | Path) -> Path:
    """The absolute path, by the names of links and not of what they lead to; `..` and `~` are taken away.

    Stores of files (git-annex, DVC, the caches of hubs) keep contents under digests, and links have the names.

    Raises:
        ValueError: no file can be called so.
    """
    path = Path(path).expanduser()
    if "\0" in str(path):
        raise ValueError("embedded null byte")
    plain = Path(os.path.abspath(path))
    if ".." in path.parts:  # behind a link to a folder that is another place
        with suppress(OSError):
            if path.exists() and not (plain.exists() and os.path.samefile(path, plain)):
                return path.parent.resolve() / path.name
    return plain


def walk(folder: Path) -> Iterator[Path]:
    """All that lies in a folder and below, also behind links to folders, each of which is entered once."""
    for place, folders, files in _entered_once(folder):
        yield from (place / name for name in (*folders, *files))


def folders_in(folder: Path) -> Iterator[Path]:
    """The folder and all below it but hidden ones, each once, also behind links, in the order of their paths."""
    for place, folders, _ in _entered_once(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield place


def _entered_once(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk`, in order, also behind links to folders, but into each folder once: links may lead in a circle."""
    entered: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        yield Path(place), folders, files


def check_name(path: str | Path) -> None:
    """Raises DataError where a path is not UTF-8, which no table or JSON can hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        remedy = "rename it, as `convmv -f latin1 -t utf8` does"
        raise DataError(Problem(shown, "the name is not UTF-8", remedy)) from None


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end, or vanishes if anything fails.

    Its name ends as that of `path`, since some writers go by the ending.

    Args:
        durable: wait until the disk has it, before it takes the place of the old one: a machine that loses its power
            finds one of the two.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent)
    writing = path.with_name(writing_name(path.name))
    try:
        yield writing
        if durable:
            with writing.open("rb+") as file:
                os.fsync(file.fileno())
        for tell in announced:
            tell(path, writing)
        os.replace(writing, path)
    except BaseException:
        writing.unlink(missing_ok=True)
        raise


def move(path: Path, place: Path) -> None:
    """Give a file or folder of the same file system another name, in one step; a file that is there goes."""
    os.replace(path, place)


def replace_file(path: Path, text: str) -> None:
    """Write a whole text file (UTF-8), or leave the old one."""
    with replacing(path) as writing:
        writing.write_text(text, encoding="utf-8")


def make_folder(path: Path, remedy: str) -> None:
    """Make a folder to write to, before the expensive part begins.

    Raises:
        RunError: it cannot be made or written to; with the remedy.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise RunError(Problem(str(path), f"cannot be written to: {error.strerror}", remedy)) from None
