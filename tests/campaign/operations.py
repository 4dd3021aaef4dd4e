"""Every change of a folder on disk that a process makes, one by one; and the process's death before the n-th.

What Python does with files is seen where it happens: names (making, renaming, removing, linking, times) by an audit
hook, content by a raw file of our own under whatever `open` gives. A write is two moments: before it, and when half of
it is on disk. What Python still holds in its buffers is lost, as it is when a process is killed.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NAMES = {  # event of the audit hook -> operation, position of the path, and of the folder's descriptor
    "os.rename": ("rename", 1, 3),
    "os.remove": ("unlink", 0, 1),
    "os.mkdir": ("mkdir", 0, 2),
    "os.rmdir": ("rmdir", 0, 1),
    "os.link": ("link", 1, 3),
    "os.symlink": ("symlink", 1, 2),
    "os.truncate": ("truncate", 0, None),
    "os.utime": ("utime", 0, 3),
    "os.chmod": ("chmod", 0, 2),
}


class Operations:
    """Counts the operations of this process below a folder, from `begin` on.

    Args:
        root: the folder, absolute.
        seen: called with each operation and the path, from `root`, that it changes.
        last: die before the operation of this number, from 1; None: live.
    """

    def __init__(self, root: Path, seen: Callable[[str, str], None], last: int | None = None) -> None:
        self.root, self.seen, self.last = f"{root}{os.sep}", seen, last
        self.number = 0
        self._lock = RLock()

    def begin(self) -> None:
        """For the rest of this process, which cannot take it back."""
        for module in (builtins, io):
            module.open = self._open  # type: ignore[attr-defined]
        fsync = os.fsync

        def synced(file: Any) -> None:
            self.happens("fsync", file if isinstance(file, int) else file.fileno())
            fsync(file)

        os.fsync = synced
        sys.addaudithook(self._audit)

    def happens(self, what: str, path: Any, folder: Any = None, before: Callable[[], object] | None = None) -> None:
        """An operation is about to happen.

        Args:
            path: a name, or a descriptor.
            folder: descriptor of the folder that the name is in; None or -1: the current one.
            before: is done first by a process that dies.
        """
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif isinstance(folder, int) and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
        place = os.path.abspath(os.fsdecode(path))
        if not place.startswith(self.root):
            return
        with self._lock:
            self.number += 1
            self.seen(what, place.removeprefix(self.root))
            if self.number == self.last:
                if before is not None:
                    before()
                os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES and not isinstance(path, int):
                self.happens("open", path)
        elif event in NAMES:
            what, position, folder = NAMES[event]
            if what == "mkdir" and os.path.isdir(arguments[0]):
                return  # it fails, and changes nothing
            self.happens(what, arguments[position], None if folder is None else arguments[folder])

    def _open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """As `open`; of what is opened for writing the raw file counts."""
        if not set(mode) & set("wax+") or buffering == 0:
            return OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _Counted(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        size = io.DEFAULT_BUFFER_SIZE if buffering in (-1, 1) else buffering
        buffered = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)


class _Counted(io.FileIO):
    """A raw file whose writes, and end, are operations."""

    def __init__(self, operations: Operations, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        self._operations: Operations | None = None
        super().__init__(file, mode, closefd, opener)
        self._operations = operations

    def write(self, content: Any, /) -> int:
        if (operations := self._operations) is not None:
            operations.happens("write", self.fileno())
            half = bytes(memoryview(content).cast("B")[: len(content) // 2])
            operations.happens("half", self.fileno(), before=lambda: os.write(self.fileno(), half))
        return super().write(content)

    def truncate(self, size: int | None = None, /) -> int:
        if self._operations is not None:
            self._operations.happens("truncate", self.fileno())
        return super().truncate(size)

    def close(self) -> None:
        if (operations := self._operations) is not None and not self.closed:
            operations.happens("close", self.fileno())
        super().close()


OPEN = io.open
