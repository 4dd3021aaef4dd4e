from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from medseg.core.machine import count_cores, free_disk, machine_memory, size_text


def test_memory_is_that_of_the_system() -> None:
    memory = machine_memory()
    assert memory.total is not None
    assert memory.free is not None
    assert memory.total == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=0.01)
    assert 0 < memory.free < memory.total


def test_without_proc_the_total_is_known_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    memory = machine_memory()
    assert memory.total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory.free is None


def test_cores_are_those_of_this_process() -> None:
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        assert count_cores() == 1
    finally:
        os.sched_setaffinity(0, own)
    assert count_cores() == len(own)


def test_the_disk_of_a_folder_that_is_still_to_be_made(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert free_disk(tmp_path / "runs" / "new") == pytest.approx(free, rel=0.05)


def test_sizes_in_words() -> None:
    assert [size_text(size) for size in (0, 1536, 3 * 2**20, 5.5 * 2**30)] == ["0 B", "1.5 KiB", "3 MiB", "5.5 GiB"]
