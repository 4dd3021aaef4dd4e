"""Processes that are forked from a server behave like those that Python starts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.processes import Module

SCRIPT = """
import multiprocessing, os, sys, threading
if __name__ == "__main__":
    print(sys.argv[1:], os.getcwd(), os.environ["OMP_NUM_THREADS"], os.environ["RANK"])
    print(multiprocessing.get_start_method(), threading.active_count(), "medseg" in sys.modules, sys.stdin.read() == "")
    print("wrong", file=sys.stderr)
    if sys.argv[1] == "wait":
        threading.Event().wait()
    sys.exit(int(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_module_has_its_own_arguments_folder_output_and_exit_code(tmp_path: Path) -> None:
    import multiprocessing

    (tmp_path / "script.py").write_text(SCRIPT)
    process = Module("script", ["3", "b c"], cwd=tmp_path, environment={"RANK": "1"})
    code, out, err = process.finish()
    assert code == 3
    assert out.splitlines() == [
        f"['3', 'b c'] {tmp_path} 1 1",
        f"{multiprocessing.get_all_start_methods()[0]} 1 False True",
    ]
    assert err == "wrong\n"


@pytest.mark.slow
def test_a_module_can_be_killed_and_does_not_run_for_ever(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    waiting = [Module("script", ["wait"], cwd=tmp_path, environment={"RANK": "1"}) for _ in range(2)]
    assert waiting[0].poll() is None
    waiting[0].kill()
    assert waiting[0].finish()[0] == -signal.SIGKILL
    with pytest.raises(TimeoutError, match="still running after"):
        waiting[1].finish(seconds=0.5)
    assert waiting[1].poll() == -signal.SIGKILL
