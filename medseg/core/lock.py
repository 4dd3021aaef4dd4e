"""One writer a folder: a file in it says which process writes there. Readers take no lock."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medseg.core.errors import Problem, RunError
from medseg.core.files import make_folder, move, sweep, writing_name
from medseg.core.owner import Owner

LOCK = ".medseg-lock"
TRIES = 5

_held: set[Path] = set()


@contextmanager
def writing_to(folder: Path, remedy: str) -> Iterator[None]:
    """Be the only writer of a folder, which is made; what a process that died was writing into it goes.

    Within one process the same folder may be locked again. The lock of a process of this machine that is no more is
    taken over.

    Args:
        remedy: what to do where the folder cannot be written to.

    Raises:
        RunError: another process writes there, or seems to: that of another machine is not asked.
    """
    made = not folder.exists()
    make_folder(folder, remedy)
    file = folder.resolve() / LOCK
    process, again = os.getpid(), file in _held
    if not again:
        _take(file)
        _held.add(file)
        sweep(folder)
    try:
        yield
    finally:
        if not again and process == os.getpid():  # not in a child that was forked meanwhile
            _held.discard(file)
            file.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # it is not empty
                    folder.rmdir()


def _take(file: Path) -> None:
    for _ in range(TRIES):
        if _create(file):
            return
        owner = _owner(file)
        if owner is not None and not owner.dead:
            raise RunError(_busy(file, owner))
        _remove_dead(file, owner)
    raise RunError(Problem(str(file.parent), "other processes begin to write there too", "try again in a moment"))


def _create(file: Path) -> bool:
    """Make the lock with its content, as one step; False where there is one."""
    content = file.with_name(writing_name(file.name))
    try:
        with content.open("x", encoding="utf-8") as stream:
            json.dump(Owner.this().as_dict(), stream)
        try:
            os.link(content, file)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return _create_plainly(file, content.read_text(encoding="utf-8"))
    finally:
        content.unlink(missing_ok=True)
    return True


def _create_plainly(file: Path, text: str) -> bool:
    try:
        with file.open("x", encoding="utf-8") as stream:  # O_CREAT | O_EXCL
            stream.write(text)
    except FileExistsError:
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
        return Problem(str(file.parent), f"{who} is writing there", "wait for it, or end it, or choose another folder")
    what = f"{who} is, or was, writing there, which cannot be asked from this machine"
    return Problem(str(file.parent), what, f"if it is no more, remove the file {file}")
