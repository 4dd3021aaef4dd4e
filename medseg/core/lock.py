"""One writer a folder, or of a file alone: a file there says which process writes. Readers take no lock.

The system's own lock on that file (fcntl) says beside it whether the process lives, where its number does not: several
containers may have one name of a machine, and each its own numbers of processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

from medseg.core.errors import Problem, RunError
from medseg.core.files import make_folder, move, sweep, writing_name
from medseg.core.owner import Owner

LOCK = ".medseg-lock"
TRIES = 5
POLL = 0.05  # seconds
LONGEST = 200  # bytes of a file's name that stands in the name of its lock; of a longer one its digest does

_held: dict[Path, IO[str] | None] = {}  # the files, open as long as the system's lock is needed


@contextmanager
def writing_to(folder: Path, remedy: str, *, only: str = "", wait: float = 0.0) -> Iterator[None]:
    """Be the only writer of a folder, which is made; what a process that died was writing into it goes.

    Within one process the same folder may be locked again. The lock of a process of this machine that is no more is
    taken over.

    Args:
        remedy: what to do where the folder cannot be written to.
        only: the file in it that is written, where others may write others beside it; default: the whole folder.
        wait: seconds to wait for another process that writes there.

    Raises:
        RunError: another process writes there, or seems to: that of another machine is not asked.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    make_folder(folder, remedy)
    file = folder.resolve() / _name(only)
    process, again = os.getpid(), file in _held
    if not again:
        _held[file] = _take(file, time.monotonic() + wait)
        sweep(folder)
    try:
        yield
    finally:
        if not again and process == os.getpid():  # not in a child that was forked meanwhile
            _close(_held.pop(file))
            file.unlink(missing_ok=True)
            with suppress(OSError):  # it is not empty
                for one in made:
                    one.rmdir()


def _name(only: str) -> str:
    """Of the lock of a file, or of a whole folder."""
    name = os.fsencode(only)
    if len(name) > LONGEST:  # most file systems count bytes, of which a letter may have four
        return f"{LOCK}-{hashlib.sha256(name).hexdigest()}"
    return f"{LOCK}-{only}" if only else LOCK


def _take(file: Path, until: float) -> IO[str] | None:
    """Make the lock this process's; the file, open while the system's lock is to be kept."""
    tries = 0
    while tries < TRIES:
        with suppress(FileExistsError):
            return _create(file)
        owner, locked = _owner(file), _is_locked(file)
        if owner is not None and (locked or not owner.dead):
            if time.monotonic() < until:
                time.sleep(POLL)
                continue
            raise RunError(_busy(file, owner))
        tries += 1
        if not locked:  # else it is about to be written
            _remove_dead(file, owner)
    raise RunError(Problem(str(file.parent), "other processes begin to write there too", "try again in a moment"))


def _create(file: Path) -> IO[str] | None:
    """Make the lock with its content, as one step; raises FileExistsError where there is one."""
    content = file.with_name(writing_name(file.name))
    try:
        stream = _written(content)
        try:
            os.link(content, file)
        except OSError as error:
            _close(stream)
            if isinstance(error, FileExistsError):
                raise
            stream = _written(file)  # a file system without links
    finally:
        content.unlink(missing_ok=True)
    return stream


def _written(file: Path) -> IO[str] | None:
    """Make the file, which must not be there (O_CREAT | O_EXCL), with the system's lock; open, where there is one."""
    stream = file.open("x", encoding="utf-8")
    try:
        locked = fcntl is not None and _lock(stream, fcntl.LOCK_EX)
        json.dump(Owner.this().as_dict(), stream)
        stream.flush()
    except BaseException:
        stream.close()
        raise
    if locked:
        return stream
    stream.close()
    return None


def _close(stream: IO[str] | None) -> None:
    if stream is not None:
        stream.close()


def _is_locked(file: Path) -> bool:
    """Whether a process has the system's lock on it."""
    try:
        with file.open(encoding="utf-8") as stream:
            return fcntl is not None and _lock(stream, fcntl.LOCK_SH) is None
    except OSError:
        return False


def _lock(stream: IO[str], kind: int) -> bool | None:
    """Whether the system's lock was taken; None: another process has it; False: the file system knows none."""
    try:
        fcntl.lockf(stream, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return None
    except OSError:
        return False
    return True


def _owner(file: Path) -> Owner | None:
    """Who holds the lock; None where it is gone, or was not written to its end."""
    try:
        return Owner.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _remove_dead(file: Path, owner: Owner | None) -> None:
    """Remove the lock of this owner, and no other: one that another process has just taken over is put back."""
    taken = file.with_name(writing_name(file.name))
    with suppress(FileNotFoundError):
        move(file, taken)
        if _owner(taken) != owner:
            with suppress(OSError):
                os.link(taken, file)
        taken.unlink()


def _busy(file: Path, owner: Owner) -> Problem:
    who = f"process {owner.process} on {owner.host}"
    if owner.here:
        remedy = f"wait for it, or end it, or choose another folder; if that process is none of medseg, remove {file}"
        return Problem(str(file.parent), f"{who} is writing there", remedy)
    what = f"{who} is, or was, writing there, which cannot be asked from this machine"
    return Problem(str(file.parent), what, f"if it is no more, remove the file {file}")
