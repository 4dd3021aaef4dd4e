"""medseg's command line in a process that is forked from this one, where everything is imported: no start to wait for.

Nothing here, nor in the parts of the campaign, knows more of medseg than its command line, so that the same campaign
runs on another tree (`--tree`).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCREEN = 40  # lines that fit one
SECONDS = 60.0  # after which a command counts as one that hangs; on two cores the longest takes four
MEMORY = 3 << 30  # bytes that a command may take beside what is imported
BESIDE = (
    "ignite.handlers",
    "matplotlib.pyplot",
    "monai.bundle",
    "nibabel",
    "scipy.ndimage",
    "SimpleITK",
    "tifffile",
    "torch.utils.data",
    "torch.utils.tensorboard",
)
Before = Callable[[], object]


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code (-N: by signal N; None: it was ended as it did not end itself)."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def fault(self) -> str | None:
        """What no command may do, whatever it is given; None: it did none of it."""
        said = [line for line in self.err.splitlines() if "%|" not in line]  # without progress bars
        if self.code is None:
            return f"hangs: {said[-1:]}"
        if self.code < 0:
            return f"signal {-self.code}: {said[-1:]}"
        if "Traceback (most recent call last)" in self.err:
            return f"traceback: {said[-1][:300]}"
        if self.code not in (0, 1, 2):
            return f"exit {self.code}: {' '.join(said)[:300]}"
        if len(said) > SCREEN:
            return f"{len(said)} lines: {said[0][:200]}"
        if self.code and not said and not self.out:
            return f"exit {self.code} without a word"
        return None


ROOT = Path(__file__).resolve().parents[2]


def use(tree: Path | None) -> None:
    """Take medseg from the tree, not from where this module lies; before it is imported."""
    if tree is not None:
        import tests

        sys.path.insert(0, str(tree.resolve()))
        tests.__path__ = [str(ROOT / "tests")]  # its own tests stay away


def tree() -> Path:
    """The checkout whose medseg is tried."""
    import medseg

    return Path(medseg.__path__[0]).resolve().parent


def warm() -> None:
    """Import medseg, all of it, and what it imports when it is at work."""
    import torch

    import medseg

    torch.set_num_threads(1)
    names = [found.name for found in pkgutil.walk_packages(medseg.__path__, "medseg.")]
    for name in [*BESIDE, *(name for name in names if not name.endswith("__main__"))]:
        try:
            importlib.import_module(name)
        except ImportError:  # of a package that is not installed, which the verb says too
            continue


def medseg(
    *arguments: str | Path,
    cwd: Path,
    before: Before | None = None,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Outcome:
    """`medseg ARGUMENTS` in a process of its own, forked from this one.

    Args:
        before: is called there first.
        memory: bytes that it may take beside what this process has.
    """
    from medseg.cli import main

    def work() -> None:
        sys.argv = ["medseg", *map(str, arguments)]
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + memory,) * 2)
        if before is not None:
            before()
        main()

    return forked(work, cwd=cwd, seconds=seconds)


def forked(work: Callable[[], Any], *, cwd: Path, seconds: float) -> Outcome:
    """Some work in a process of its own, in a group of its own that is ended with it; temporary files go to `cwd`."""
    pipes = [os.pipe() for _ in range(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(work, cwd, [writing for _, writing in pipes])
    for _, writing in pipes:
        os.close(writing)
    code, said = _ended(child, [reading for reading, _ in pipes], seconds)
    out, err = (text.decode(errors="backslashreplace") for text in said)
    return Outcome(code, out, err, time.monotonic() - begin)


def _child(work: Callable[[], Any], cwd: Path, outputs: Sequence[int]) -> None:
    """In the new process: never returns."""
    code = 70
    try:
        os.setsid()
        for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *outputs)):
            os.dup2(descriptor, number)
        os.closerange(3, max(outputs) + 1)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, "r" if number == 0 else "w", buffering=1, closefd=False) for number in range(3)
        )
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ["TMPDIR"] = str(cwd)
        os.chdir(cwd)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _ended(child: int, pipes: Sequence[int], seconds: float) -> tuple[int | None, list[bytes]]:
    """Wait for the child, and end what is left of its group.

    Returns:
        its exit code (-N: of signal N; None: it took longer), and what came out of each pipe.
    """
    said = {pipe: bytearray() for pipe in pipes}
    end = os.pidfd_open(child)
    until = time.monotonic() + seconds
    in_time = False
    while not in_time and (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([end, *pipes], [], [], left)
        _read(said, ready)
        in_time = end in ready
    os.close(end)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)  # it has not come to its `setsid`
    _, status = os.waitpid(child, 0)
    for pipe in pipes:  # nobody writes any more
        while part := os.read(pipe, 1 << 16):
            said[pipe] += part
        os.close(pipe)
    return os.waitstatus_to_exitcode(status) if in_time else None, [bytes(said[pipe]) for pipe in pipes]


def _read(said: dict[int, bytearray], ready: Sequence[int]) -> None:
    for pipe in ready:
        if pipe in said:
            said[pipe] += os.read(pipe, 1 << 16)


def _address_space() -> int:
    """Bytes of address space that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
