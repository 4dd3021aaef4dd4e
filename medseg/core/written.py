"""Which files medseg wrote in a folder, by their digests: one that somebody has changed since is theirs.

`.medseg-written` holds file -> the digests of what stood there and of what came last, both medseg's. It is written
before a file takes its place (`files.replacing`), so that a command may be killed at any moment. A file that it does
not name is not known: an older version wrote it, or somebody else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg.core.errors import Problem, RunError
from medseg.core.files import announced, readable, replace_file
from medseg.core.sealed import sealed, unsealed

WRITTEN = ".medseg-written"
UNREAD = "keep what you changed in this folder elsewhere, then remove the file: medseg may replace what it wrote there"

_accounts: dict[Path, frozenset[str]] = {}  # folder -> the files in it that are written down, while a verb writes there


@contextmanager
def written_down(folder: Path, names: Iterable[str]) -> Iterator[None]:
    """Inside it every file of these names (from the folder) that this process writes is written down."""
    folder = Path(os.path.realpath(folder))
    before = _accounts.get(folder)
    _accounts[folder] = frozenset(names) | (before or frozenset())
    try:
        yield
    finally:
        if before is None:
            del _accounts[folder]
        else:
            _accounts[folder] = before


def is_changed(folder: Path, file: Path) -> bool:
    """Whether medseg wrote the file and somebody changed it since; one without content is no change of it.

    Args:
        folder: that has the account.
    """
    if not file.is_file() or not file.is_relative_to(folder) or not file.stat().st_size:
        return False
    known = _read(folder).get(file.relative_to(folder).as_posix())
    return known is not None and digest_of(file) not in known


def is_known(folder: Path, file: Path) -> bool:
    """Whether medseg wrote a file of this name, by the account of a folder."""
    return file.is_relative_to(folder) and file.relative_to(folder).as_posix() in _read(folder)


def digest_of(file: Path) -> str:
    """SHA-256 of a file's content."""
    with readable(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of_text(text: str) -> str:
    """That of the file that `replace_file` makes of it."""
    return hashlib.sha256(text.replace("\n", os.linesep).encode()).hexdigest()


def _read(folder: Path) -> dict[str, list[str]]:
    """File -> digests; empty where there is no account.

    Raises:
        RunError: it is damaged: nobody knows which files were changed.
    """
    file = folder / WRITTEN
    try:
        text = readable(file).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as failure:
        raise RunError(Problem(str(file), f"cannot be read: {failure.strerror}", UNREAD)) from None
    except UnicodeDecodeError:
        raise _damaged(file, "it is not UTF-8 text") from None
    try:
        content = unsealed(text, indent=1, required=False)  # an older version wrote no digest
    except (ValueError, RecursionError) as failure:
        raise _damaged(file, str(failure)) from None
    if not all(isinstance(digests, list) for digests in content.values()):
        raise _damaged(file, "it holds something else than digests")
    return {name: list(map(str, digests)) for name, digests in content.items()}


def _damaged(file: Path, why: str) -> RunError:
    return RunError(Problem(str(file), f"says which files medseg wrote here, and is damaged: {why}", UNREAD))


def _write_down(path: Path, writing: Path) -> None:
    """Before a file takes its place: in the accounts that are kept, and in that of its folder where it has one.

    (MONAI alone writes an evaluation's tables too, with no verb around it.)
    """
    real = Path(os.path.realpath(path.parent)) / path.name
    own = ((one, real.relative_to(one).as_posix()) for one in _accounts if real.is_relative_to(one))
    folders = [folder for folder, name in own if name in _accounts[folder]]
    if real.parent not in folders and real.name in _read(real.parent):
        folders.append(real.parent)
    for folder in folders:
        account = _read(folder)
        stood = [digest_of(path)] if path.is_file() else []
        account[real.relative_to(folder).as_posix()] = list(dict.fromkeys([*stood, digest_of(writing)]))
        replace_file(folder / WRITTEN, sealed(dict(sorted(account.items()))))


announced.append(_write_down)
