"""Which process something belongs to, and whether it still lives: for locks, and for files that are not whole yet."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

OUTSIDE = "pid:[4026531836]"  # the numbers of a Linux itself (PROC_PID_INIT_INO of its source)


@dataclass(frozen=True)
class Owner:
    """A process.

    Args:
        host: the machine's name.
        process: its number there.
        start: when it began, in the machine's own ticks, which tells it from another process of the same number. Empty
            where the system does not say.
    """

    host: str
    process: int
    start: str

    @classmethod
    def this(cls) -> Owner:
        """The process that asks (after a fork, the child)."""
        return _of_process(os.getpid())

    @classmethod
    def from_dict(cls, content: object) -> Owner | None:
        """As `as_dict` gave it; None of anything else."""
        if not isinstance(content, Mapping):
            return None
        host, process, start = (content.get(name) for name in ("host", "process", "start"))
        if not isinstance(host, str) or not isinstance(start, str) or type(process) is not int or process < 1:
            return None
        return cls(host, process, start)

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @property
    def here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == platform.node()

    @property
    def dead(self) -> bool:
        """Whether it surely is no more: only of this machine is that known."""
        return self.here and not (_lives(self.process) and _start(self.process) in (self.start, ""))

    @property
    def tag(self) -> str:
        """A short text of it for the name of a file: digits and letters, see `owner_died`."""
        return f"{_short(self.host + _numbering())}-{self.process}-{self.start or 0}"


def owner_died(tag: str) -> bool:
    """Whether the process of a `tag` surely is no more; False of what is no tag."""
    host, *numbers = tag.split("-")
    if (
        host != _short(platform.node() + _numbering())
        or len(numbers) != 2
        or not all(number.isdigit() for number in numbers)
    ):
        return False
    process, start = int(numbers[0]), numbers[1]
    return process > 0 and Owner(platform.node(), process, "" if start == "0" else start).dead


@cache
def _of_process(process: int) -> Owner:
    return Owner(platform.node(), process, _start(process))


@cache
def _numbering() -> str:
    """What tells a container's numbers of processes from those of others of the same machine's name; empty outside."""
    try:
        found = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return "" if found == OUTSIDE else found


@cache
def _short(host: str) -> str:
    return sha256(host.encode()).hexdigest()[:6]


def _lives(process: int) -> bool:
    if os.name != "posix":  # there `kill` would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is somebody else's, or no number of a process
        return True
    return True


def _start(process: int) -> str:
    """Ticks from the machine's start until the process's; empty where there is no /proc."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
