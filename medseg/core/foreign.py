"""Errors of others (the system's, PyTorch's, MONAI's) as ours: what stopped medseg, and what to do about it.

`explained` is the one place that knows them. What it does not know is a mistake of medseg's own, and stays as it is.
Errors of PyTorch are known by their names and words, so that nothing heavy is imported for it.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

from medseg.core.errors import MedsegError, Problem, RunError, SystemFailure, mistake_in

AGAIN = "the same command again goes on where it stopped"
LESS_MEMORY = (
    "end other programs, or take less at once: workers, batch_size or patch_size smaller, "
    "in prediction memory_mib and window_batch; " + AGAIN
)
RIGHTS = "give another place, or have its owner change the rights"
DAMAGED = "restore the file from a copy, or take it out"
UNKNOWN_FILE = f"{DAMAGED}; the traceback says who read it"

SYSTEM = {
    errno.ENOSPC: ("the disk is full", f"make room (`medseg clean` lists what runs can spare); {AGAIN}"),
    errno.EDQUOT: ("your share of the disk is used up", f"make room, or give another disk; {AGAIN}"),
    errno.EFBIG: ("the disk does not take files of this size", "give a place on another disk"),
    errno.EACCES: ("there is no right to it", RIGHTS),
    errno.EPERM: ("there is no right to it", RIGHTS),
    errno.EROFS: ("it lies on a disk that can only be read", "give a place that can be written to"),
    errno.ENOENT: ("no such file or folder", "check the path; was it moved, or its disk taken off, in between?"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "give another place"),
    errno.EISDIR: ("it is a folder, where a file is expected", "give another place, or move the folder"),
    errno.EEXIST: ("it is there already", "give another place, or move it away"),
    errno.ENOTEMPTY: ("the folder is not empty", "give another place, or move what is in it"),
    errno.ENAMETOOLONG: ("the name is longer than the file system takes", "shorten the names of files and folders"),
    errno.ELOOP: ("links lead round in a circle", "repair the links"),
    errno.ESPIPE: ("it is no file but a pipe or a device", "give the file itself"),
    errno.EMFILE: (
        "this process has as many files open as it may",
        "raise the limit (`ulimit -n`), or workers=0",
    ),
    errno.ENFILE: ("the machine has as many files open as it can", "end other programs, or workers=0"),
    errno.ENOMEM: ("the machine has no more memory", LESS_MEMORY),
    errno.EIO: ("the disk, or the way to it, fails", f"check the disk, copy what is on it; {AGAIN}"),
    errno.ENODEV: ("the disk is not there", f"check that it is mounted; {AGAIN}"),
    errno.ENXIO: ("the device is not there", f"check that it is mounted; {AGAIN}"),
    errno.EBUSY: ("another program has it", f"end that program; {AGAIN}"),
    errno.ETXTBSY: ("another program has it", f"end that program; {AGAIN}"),
    errno.EINVAL: ("the file system does not take this name, or this operation", "give a place on another disk"),
    errno.EILSEQ: ("the file system does not take this name", "rename the file in plain letters"),
    errno.ETIMEDOUT: ("the disk or the network does not answer", AGAIN),
    errno.ECONNREFUSED: ("the other process is not there", AGAIN),
    errno.ECONNRESET: ("the other process has ended", f"read what that one said; {AGAIN}"),
    errno.EPIPE: ("the other process has ended", f"read what that one said; {AGAIN}"),
    errno.EADDRINUSE: ("the port is in use", "give another one: torchrun --master-port"),
}
"""Number of an error of the system -> what it means, and what to do."""
if hasattr(errno, "ESTALE"):  # not on every system
    SYSTEM[errno.ESTALE] = ("the network drive no longer knows it", f"mount it anew; {AGAIN}")

SHARED = (
    "processes that load data have no more shared memory",
    f"workers=0 does without; or give more of it (of a container: --shm-size=8g); {AGAIN}",
)
KILLED = (
    "a process that loads data was killed by the system{by}: most likely the machine has no more memory",
    f"fewer workers (0 does without such processes), or end other programs; {AGAIN}",
)
OTHER_RANK = (
    "the processes that train together lost one another",
    f"one of them has ended, or waited too long: its own message says why; {AGAIN}",
)
SAID = (
    (r"killed by signal: Bus error|out of shared memory|unable to (?:open|write|mmap|resize|allocate).{0,40}"
     r"(?:shared memory|</torch)|Shared memory manager", *SHARED),
    (r"received \d+ items of ancdata", *SYSTEM[errno.EMFILE]),
    (r"DataLoader worker \(pid[^)]*\) is killed by signal: (?P<by>\w+)", *KILLED),
    (r"DataLoader worker \(pid.{0,80}\) exited unexpectedly", *KILLED),
    (r"DataLoader timed out", "a process that loads data does not answer", f"workers=0 does without; {AGAIN}"),
    (r"Expected more than 1 (?:value per channel|spatial element) when training",
     "a norm layer gets a single value of a channel in training, from which nothing can be learnt",
     "make patch_size or batch_size larger, or take norm=group"),
    (r"SyncBatchNorm (?:expected input|layers only)", "norm=syncbatch is for GPUs",
     "take norm=batch on a CPU"),
    (r"(?:[Cc]an't|cannot|[Uu]nable to) allocate|not enough memory|array is too big|std::bad_alloc|out of memory|"
     r"ALLOC_FAILED", "there is no more memory", LESS_MEMORY),
    (r"CUDA error|cuDNN error|CUBLAS_STATUS|CUDA driver|NVML|device-side assert|no kernel image",
     "the GPU, or its driver, fails: {said}", f"`nvidia-smi` says how it does; compute on the device cpu; {AGAIN}"),
    (r"NCCL|[Gg]loo|TCPStore|Connection (?:closed|reset) by peer|c10d|Socket Timeout|wait timeout", *OTHER_RANK),
    (r"embedded null (?:byte|character)", "a path holds a character 0", "rename the file"),
    (r"INTERNAL ASSERT FAILED", "PyTorch fails in itself: {said}",
     f"{AGAIN}; if it fails there again, report it to PyTorch"),
    (r"Expected all tensors to be on the same device", "a part of the network stays on another device: {said}",
     "an installed package brings it? report it there"),
)  # fmt: skip
"""Words of an error -> what it means, and what to do; the first that fits counts. `{said}`: its own first line."""
SPEAKERS = (RuntimeError, ValueError, AssertionError)  # and what is made of them: whose words are looked at
OF_WORKER = re.compile(r"Caught (?P<kind>\w+) in (?:DataLoader worker process|pin memory thread)[^\n]*\nOriginal ")
LAST = re.compile(r"^(?:[\w]+\.)*(?P<kind>\w+)(?:: |$)", re.MULTILINE)


def explained(error: BaseException) -> MedsegError | None:
    """The error as a message with a remedy: a user's mistake as itself; None: it is none of those that are known.

    The error itself, with what led to it, is the cause of what is made of it.
    """
    for one in causes(error):
        if isinstance(one, MedsegError):
            return _from_worker(one) or one
    if (mistake := mistake_in(error)) is not None:
        return mistake
    for one in causes(error):
        if (problem := _problem(one)) is not None:
            failure = SystemFailure(problem)
            failure.__cause__ = error
            return failure
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it says it comes from (MONAI wraps every error in some of its own), the innermost last."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__


@contextmanager
def unwrapped() -> Iterator[None]:
    """Inside it what `explained` knows comes out as that, without what MONAI wraps around it; any other as it is."""
    try:
        yield
    except Exception as error:
        known = explained(error)
        if known is not None:
            raise known from (known.__cause__ if isinstance(known, SystemFailure) else None)
        raise


def lacks_memory(error: BaseException) -> str | None:
    """What a full memory, of a GPU or of the machine, says of itself; None: that is not what is wrong."""
    for one in causes(error):
        if _is_full(one):
            said = ". ".join(str(one).split(". ")[:3])  # how much was wanted, of what, and how much is free
            return " ".join(said.split()) or "there is no more memory"
    return None


def _is_full(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    words = isinstance(error, RuntimeError) and re.search(r"DefaultCPUAllocator|std::bad_alloc", str(error)) is not None
    return isinstance(error, MemoryError) or "OutOfMemoryError" in names or words


def _from_worker(error: MedsegError) -> MedsegError | None:
    """A user's mistake as a loader's process raised it, which PyTorch hands over as the text of its traceback."""
    found = OF_WORKER.match(str(error))
    if found is None:
        return None
    said = _last_said(str(error), found["kind"])
    what, _, remedy = said.partition("\n    -> ")
    return RunError(Problem("", what, remedy))


def _last_said(text: str, kind: str) -> str:
    """What the last error of this kind says in the text of a traceback."""
    places = [found for found in LAST.finditer(text) if found["kind"] == kind]
    return text[places[-1].end() :].strip() if places else text.splitlines()[0]


def _problem(error: BaseException) -> Problem | None:
    text, number = str(error), getattr(error, "errno", None)
    if (found := OF_WORKER.match(text)) is not None:
        text = _last_said(text, found["kind"])
        if found["kind"].endswith("MemoryError"):
            return Problem("", f"there is no more memory{_shown(text)}", LESS_MEMORY)
        if (coded := re.match(r"\[Errno (\d+)\]", text)) is not None:
            number = int(coded[1])
    if _is_full(error):
        return Problem("", f"there is no more memory{_shown(text)}", LESS_MEMORY)
    if type(error).__name__ == "BrokenProcessPool":
        return Problem("", *(part.format(by="") for part in KILLED))
    if isinstance(error, OSError) and not isinstance(error, zipfile.BadZipFile):
        return _of_system(error, number, text)
    if isinstance(error, UnicodeError):
        return _of_text(error)
    if isinstance(error, RecursionError):
        return Problem("", "a file is nested too deeply to be read", DAMAGED)
    if isinstance(error, (json.JSONDecodeError, csv.Error, zlib.error, zipfile.BadZipFile, UnpicklingError, EOFError)):
        kind = {json.JSONDecodeError: "JSON", csv.Error: "CSV"}.get(type(error), "file")
        return Problem("", f"a damaged {kind}{_shown(text)}", UNKNOWN_FILE)
    if isinstance(error, SPEAKERS):
        for words, what, remedy in SAID:
            if (match := re.search(words, text)) is not None:
                by = match.groupdict().get("by")
                told = what.replace("{by}", f" ({by})" if by else "").replace("{said}", _first_line(text))
                return Problem("", told, remedy)
    return None


def _of_system(error: OSError, number: int | None, text: str) -> Problem:
    where = "" if error.filename is None else shown_path(error.filename)
    if number == errno.ENOSPC and _is_of_locks(error):
        return Problem("", *SHARED)
    if number in SYSTEM:
        return Problem(where, *SYSTEM[number])
    said = os.strerror(number) if number is not None else _first_line(text) or type(error).__name__
    return Problem(where, f"the system refuses: {said}", f"check the path and its disk; {AGAIN}")


def _is_of_locks(error: OSError) -> bool:
    """Whether it was raised where processes begin to share something, which is in shared memory, not on a disk."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_globals.get("__name__") == "multiprocessing.synchronize"


def _of_text(error: UnicodeError) -> Problem:
    if isinstance(error, UnicodeEncodeError) and any("\ud800" <= one <= "\udfff" for one in str(error.object)):
        what = f"the name {shown_path(str(error.object))[:200]} is not UTF-8"
        return Problem("", what, "rename the file, as `convmv -f latin1 -t utf8` does")
    return Problem("", f"a file that should be text in UTF-8 is not{_shown(str(error))}", UNKNOWN_FILE)


def shown_path(path: object) -> str:
    """A path as it can be printed, also where its name is not UTF-8."""
    return (
        os.fsdecode(path).encode("utf-8", "backslashreplace").decode() if isinstance(path, (str, bytes)) else str(path)
    )


def _first_line(text: str) -> str:
    return next((line.strip()[:200] for line in text.splitlines() if line.strip()), "")


def _shown(text: str) -> str:
    return f": {line}" if (line := _first_line(text)) else ""
