"""What the command line says when a command fails: one screen, whatever went wrong, and a log of what was not expected.

The whole traceback of an error that is no mistake of the user's is in a log file: in the folder that the command writes
to, if it can be written to, else in the temporary one.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from medseg import __version__
from medseg.core.contact import report_to
from medseg.core.errors import MedsegError, Problem, SystemFailure
from medseg.core.files import LOG
from medseg.core.foreign import causes, explained, shown_path
from medseg.core.stopping import Interrupted

BUG = 70
"""Exit code of an error of medseg's own (EX_SOFTWARE of sysexits.h)."""
WRITTEN = ("--output", "--run")  # options that name the folder that a command writes to, the likelier first
REPORT = "this is a mistake in medseg, or in a package beside it: report it to {}, with the log"
GOES_ON = {"train", "demo", "evaluate", "predict", "postprocess"}
"""Verbs that keep what they have finished."""
SHOWN = 15  # problems of one error, of two lines each
LONGEST = 1000  # characters of a line of a message: what is quoted may be anything


def tell(error: Exception, arguments: Sequence[str]) -> int:
    """Print what is wrong, unless another process has said it already; the exit code.

    Args:
        arguments: of the command line, without the program.
    """
    known = explained(error)
    text = text_of(known or MedsegError(unexpected(error)))
    if not (known is not None and known.told) and is_first_to_say(text):
        print(text, file=sys.stderr)
        if known is None or isinstance(known, SystemFailure):
            log = keep_traceback(error, arguments)
            print("    the traceback", f"is in {log}" if log else "could be written nowhere", file=sys.stderr)
    return BUG if known is None else known.exit_code


def tell_stopped(stopped: Interrupted, arguments: Sequence[str]) -> int:
    """Print what a command that a signal has ended leaves behind, and how to go on; the exit code."""
    saved = stopped.saved or ("what was finished" if GOES_ON & {*arguments[:1]} else "")
    left = f"{saved} is saved, and the same command goes on from there" if saved else "no file is half written"
    if is_first_to_say(text := f"{stopped}: {left}"):
        print(text, file=sys.stderr)
    return stopped.exit_code


@contextmanager
def threads_told(arguments: Sequence[str]) -> Iterator[None]:
    """Inside it a thread that fails says so as a command does: of what `explained` knows a line, as its owner ends too.

    (TensorBoard writes in a thread of its own, and raises what stopped it once more where it is closed.)
    """
    before = threading.excepthook

    def told(failed: threading.ExceptHookArgs) -> None:
        error = failed.exc_value
        if isinstance(error, Exception):
            if (known := explained(error)) is None:
                tell(error, arguments)
            else:
                print(shown_path(f"a thread stopped: {known.line}"), file=sys.stderr)

    threading.excepthook = told
    try:
        yield
    finally:
        threading.excepthook = before


def unexpected(error: Exception) -> Problem:
    """What to say of an error that nobody has foreseen."""
    *_, first = causes(error)
    said = " ".join(str(first).split())
    what = f"{type(first).__name__}: {said}" if said else type(first).__name__
    return Problem("unexpected", what, REPORT.format(report_to()))


def text_of(error: MedsegError) -> str:
    """`error: ...` of a single problem, or how many there are and the first of them, as many as a screen shows."""
    shown, rest = error.problems[:SHOWN], len(error.problems) - SHOWN
    several = [f"{len(error.problems)} problems", *map(str, shown), *([f"and {rest} more"] if rest > 0 else [])]
    text = f"error: {error}" if len(error.problems) == 1 else "\n".join(several)
    lines = (line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..." for line in text.split("\n"))
    return shown_path("\n".join(lines))


def keep_traceback(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write a log with the traceback of an error and what it was made of; the file, or None where there is no place."""
    lines = [
        f"medseg {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"medseg {' '.join(map(shown_path, arguments))}",
        "",
        *traceback.format_exception(error),
    ]
    name = f"{LOG}{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (*written_folders(arguments), *_temporary_folder()):
        log = folder.absolute() / name
        try:
            log.write_text("\n".join(lines), encoding="utf-8", errors="backslashreplace")
        except (OSError, ValueError):
            continue
        return log
    return None


def _temporary_folder() -> list[Path]:
    """The folder for temporary files; none where every one that could be it is full."""
    try:
        return [Path(tempfile.gettempdir())]
    except OSError:
        return []


def written_folders(arguments: Sequence[str]) -> Iterator[Path]:
    """The folders that the command writes to and that hold something: an empty one has to stay so, to be begun in."""
    given = {one.partition("=")[0] for one in arguments}
    for option in [one for one in WRITTEN if one in given][:1]:  # who has an output only reads the run
        for number, one in enumerate(arguments):
            value = arguments[number + 1] if one == option and number + 1 < len(arguments) else None
            if one.startswith(f"{option}="):
                value = one.removeprefix(f"{option}=")
            try:
                if value and any(Path(value).iterdir()):
                    yield Path(value)
            except (OSError, ValueError):  # no folder, or a name that none can have
                continue


def is_first_to_say(text: str) -> bool:
    """Whether no other process that `torchrun` started beside this one has said the same before.

    The processes agree through `torchrun`'s own store. Where that cannot be asked, each speaks for itself.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    from datetime import timedelta

    from torch.distributed import TCPStore

    try:
        place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        store = TCPStore(*place, is_master=False, timeout=timedelta(seconds=5))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return store.add(f"medseg/{attempt}/{sha256(text.encode()).hexdigest()}", 1) == 1
    except Exception as error:  # whatever the store's end says, the message matters more
        print(f"(torchrun cannot be asked who speaks: {type(error).__name__})", file=sys.stderr)
        return True
