"""What this machine has: cores, memory, disk, processor. Of GPUs, PyTorch knows (`engine/device.py`)."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
V1, V2 = ("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")  # of cgroups


@dataclass(frozen=True)
class Memory:
    """Bytes of memory, in all and free for programs; None where the system does not say."""

    total: int | None
    free: int | None


def count_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory() -> Memory:
    """What there is and what is free, as /proc/meminfo says; elsewhere the total alone, if the system knows it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return Memory(_total(), None)
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest}
    return Memory(kib["MemTotal"] * 1024, min([kib["MemAvailable"] * 1024, *_left_to_container()]))


def _left_to_container() -> Iterator[int]:
    """What the groups of processes (cgroups) that this one is in may still take, as far as that is limited.

    The system ends a process of a container that takes more, however much the machine has. What is only kept of files
    that were read makes room, also what was read twice (active), as the cache of a training is in every epoch.
    """
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, kinds, name in groups:
        if kinds not in ("", "memory"):
            continue
        files, base = (V2, Path("/sys/fs/cgroup")) if not kinds else (V1, Path("/sys/fs/cgroup/memory"))
        for folder in {base / name.lstrip("/"), base}:  # a container sees its own group as the root
            try:
                limit, used = (int((folder / file).read_text(encoding="utf-8")) for file in files)
                counts = dict(
                    line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
                )
            except (OSError, ValueError):  # no such group, or "max": no limit
                continue
            kept = (counts.get(f"total_{name}", counts.get(name, 0)) for name in ("inactive_file", "active_file"))
            yield max(0, limit - used + sum(map(int, kept)))


def _total() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def free_disk(folder: Path) -> int:
    """Bytes that this user may still write to the disk of a folder, which need not be there yet."""
    place = folder.absolute()
    return shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free


def processor() -> str:
    """The model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def size_text(size: float) -> str:
    """Bytes for a person: `1.2 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"
