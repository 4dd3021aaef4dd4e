"""SIGINT (Ctrl-C) and SIGTERM (of clusters): a command ends, says what is saved, and how to go on.

The command line listens; in somebody else's process their signals are none of medseg's business. What is going on ends
at once, as by an error, so that locks and unfinished files go. A training ends after the step it is at (`patiently`),
which it saves.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal asked the command to end. No `Exception`, since none of what goes on after one may go on.

    Args:
        by: the signal.
        saved: what of the work is kept; empty where nobody has said it yet.
    """

    def __init__(self, by: signal.Signals, saved: str = "") -> None:
        super().__init__(by, saved)
        self.by, self.saved = by, saved

    @property
    def exit_code(self) -> int:
        """As shells and clusters know it: 128 and the signal's number."""
        return 128 + self.by

    def __str__(self) -> str:
        return f"stopped by {self.by.name}"


def is_one_of_several() -> bool:
    """Whether `torchrun` started this process: then SIGTERM may come twice, of the cluster and of it."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


class _Listener:
    """Which signals wait, in this process, and the one that came."""

    process = 0  # the one that listens
    waiting: tuple[signal.Signals, ...] = ()
    asked: signal.Signals | None = None

    def hear(self, number: int, frame: FrameType | None) -> None:
        by = signal.Signals(number)
        if os.getpid() != self.process:  # forked from it, as loaders of data are
            return self._leave(by)
        if by in self.waiting and by is self.asked is signal.SIGTERM and is_one_of_several():
            return
        if by not in self.waiting or self.asked is not None:  # who asks twice waits no longer
            raise Interrupted(by)
        self.asked = by

    def _leave(self, by: signal.Signals) -> None:
        """Ctrl-C reaches all processes of a terminal, and the one that listens ends the others; SIGTERM is for one."""
        if by is not signal.SIGINT:
            signal.signal(by, signal.SIG_DFL)
            signal.raise_signal(by)


_listener = _Listener()


@contextmanager
def listening() -> Iterator[None]:
    """Inside it both signals raise `Interrupted` in the main thread, which enters it."""
    _listener.process = os.getpid()
    before = {one: signal.signal(one, _listener.hear) for one in SIGNALS}
    try:
        yield
    finally:
        _listener.asked = None
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def patiently(*signals: signal.Signals) -> Iterator[None]:
    """Inside it these signals wait until somebody asks (`asked`), at the latest until its end; the others do not.

    One that waits already, and is none of these any more, is raised first.
    """
    before, _listener.waiting = _listener.waiting, signals
    try:
        if _listener.asked is not None and _listener.asked not in signals:
            raise Interrupted(_listener.asked)
        yield
    finally:
        _listener.waiting = before
    if not before and _listener.asked is not None:
        raise Interrupted(_listener.asked)


def asked() -> signal.Signals | None:
    """The signal that waits, if one does."""
    return _listener.asked
