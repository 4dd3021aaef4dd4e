"""Processes that load data and are really killed, or really have no more shared memory: one screen, and no waiting."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.tiny import medseg, train_arguments

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="processes as Linux has them")]
SMALL_SHM = 'mount -t tmpfs -o size=$0 tmpfs /dev/shm && exec "$@"'
UNSHARE = ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_SHM]


def children(process: int) -> Iterator[int]:
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        yield from map(int, file.read_text().split())


def is_one_screen(error: str, cause: str) -> None:
    """A cause, a remedy and the place of the log; no traceback."""
    lines = error.strip().splitlines()
    assert "Traceback" not in error, error
    assert cause in error
    assert "-> " in error
    assert "the traceback is in " in error
    assert len(lines) < 12  # MONAI says where it was


def test_a_worker_of_a_training_is_killed(trained: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"training__workers": 1, "training__iterations_per_epoch": 200}
    process = medseg(*train_arguments(trained[1], tmp_path / "run", **changes), cwd=tmp_path)
    until = time.monotonic() + 120
    while not (tmp_path / "run" / "tensorboard").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    while process.poll() is None and time.monotonic() < until:  # the worker comes with the first step
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    code, _, error = process.finish()
    assert code == 2, error
    is_one_screen(error, "a process that loads data was killed by the system")
    assert not [*(tmp_path / "run").rglob(".medseg-lock")]


@pytest.mark.parametrize(("verb", "size"), [("train", "16k"), ("train", "64k"), ("evaluate", "64k")])
def test_shared_memory_is_full(verb: str, size: str, trained: tuple[Path, Path], tmp_path: Path) -> None:
    """A real one, too small for the locks of a queue, or for a batch; nobody waits for what never comes."""
    if shutil.which("unshare") is None or subprocess.run([*UNSHARE, size, "true"], capture_output=True).returncode:
        pytest.skip("no right to mount a small /dev/shm")
    run = tmp_path / "run"
    words = [*train_arguments(trained[1], run, training__workers=1, training__batch_size=8)]
    if verb == "evaluate":
        shutil.copytree(trained[0], run)
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("workers: 0", "workers: 1"))
        words = ["evaluate", "--run", str(run), "--anew"]
    command = [*UNSHARE, size, sys.executable, "-m", "medseg", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    assert done.returncode == 2, done.stderr
    is_one_screen(done.stderr, "processes that load data have no more shared memory")
    assert "workers=0" in done.stderr
