"""Memory: freed blocks stay with the process, for the next step; how much it has taken at most; a GPU that is full."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from medseg.core.errors import RunError
from medseg.core.foreign import lacks_memory

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h


class OutOfMemory(RunError):
    """A GPU, or the machine, has no room for what was asked of it."""


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Inside it, a memory that is full is an `OutOfMemory` with that remedy, in the place of PyTorch's long advice."""
    try:
        yield
    except Exception as error:
        if (said := lacks_memory(error)) is None:
            raise
        raise OutOfMemory(said, remedy) from None


def keep_freed_memory() -> bool:
    """Have glibc reuse large freed blocks, where it would give each back to the system; False where there is no glibc.

    Every feature map of a step is a large block. glibc maps such a block anew each time, and the system fills it with
    zeros page by page as it is first written: 10 to 12 % of a training step on a CPU. The process then keeps its peak
    of memory until it ends. PyTorch does the same on a GPU with a cache of its own.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))


def peak_memory_mib() -> dict[str, float]:
    """The most memory that this process has held so far, in MiB: `process`, and `gpu` where it has used one.

    Linux's VmHWM and not `ru_maxrss`, which a process takes over from the one that started it.
    """
    peaks = {}
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        peaks["process"] = int(found[1]) / 2**10
    elif sys.platform != "win32":
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
        peaks["process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["gpu"] = torch.cuda.max_memory_allocated() / 2**20
    return peaks


def peak_memory_text() -> str:
    """`peak memory 1.25 GiB`, and that of the GPU where one was used."""
    named = {"process": "", "gpu": " on the GPU"}
    return "peak memory " + (
        ", ".join(f"{mib / 2**10:.2f} GiB{named[where]}" for where, mib in peak_memory_mib().items()) or "unknown"
    )
