"""What the first of several processes fails with is what all of them fail with, and none waits; threads of NumPy."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from medseg.cli.failure import tell
from medseg.core.errors import ConfigError, PartialFailure, Problem, RunError
from medseg.engine import device
from medseg.engine.device import in_first_process, of_first_process, prepare, set_up
from tests.tiny import finish, together

SEVERAL = """
import json
import os
from functools import partial
from medseg.core.errors import ConfigError, PartialFailure, Problem
from medseg.engine import device

class Unreadable(Exception):
    def __init__(self, one, two):
        super().__init__("it cannot be made from one argument")

def fail(error):
    calls.append(1)
    raise error

errors = [
    ConfigError([Problem("here", "is wrong", "mend it"), Problem("there", "too")]),
    PartialFailure(Problem("case", "no"), {"cases": 3}),
    ZeroDivisionError("by nothing"),
    Unreadable(1, 2),
]
with device.process_group():
    found, calls = [], []
    for call in (device.in_first_process, device.of_first_process):
        for error in errors:
            try:
                call(partial(fail, error))
            except Exception as raised:
                problems = [str(problem) for problem in getattr(raised, "problems", ())]
                text = type(raised).__name__, str(raised), problems, getattr(raised, "result", None)
                found.append([device.rank(), call.__name__, *text])
    assert len(calls) == (8 if device.rank() == 0 else 0)
    assert device.of_first_process(lambda: device.rank() + 7) == 7
    assert device.in_first_process(lambda: "mine") == ("mine" if device.rank() == 0 else None)
    print("FOUND " + json.dumps(found))
    mine = device.rank()
assert device.rank() == mine == int(os.environ["RANK"])
assert device.speaks() == (mine == 0)
assert (device.world_size(), device.shard([1, 2, 3]), device.in_first_process(lambda: 1)) == (1, [1, 2, 3], 1)
"""


@pytest.mark.slow
def test_what_the_first_process_fails_with_reaches_the_others(tmp_path: Path) -> None:
    (tmp_path / "several.py").write_text(SEVERAL)
    outputs = [finish(process)[0] for process in together(2, cwd=tmp_path, module="several")]
    first, second = (json.loads(re.search(r"FOUND (.*)", out)[1]) for out in outputs)  # type: ignore[index]
    assert {row[0] for row in first} == {0}
    assert {row[0] for row in second} == {1}
    assert len(first) == len(second) == 8
    for mine, other in zip(first, second, strict=True):
        if mine[2] == "Unreadable":
            assert other[2:4] == ["RuntimeError", "Unreadable: it cannot be made from one argument"]
        else:
            assert mine[1:] == other[1:]
    assert second[0][4] == ["here: is wrong\n    -> mend it", "there: too"]
    assert second[1][5] == {"cases": 3}


SHARED = """
import json
import pathlib
import sys
from medseg.core.errors import DataError, Problem
from medseg.engine import device

here = pathlib.Path.cwd()

def make(number, processes):
    problems = []
    for case in range(number, 6, processes):
        file = here / f"case{case}"
        if not file.exists():
            file.write_text(str(device.rank()))
        if sys.argv[1] == "bad" and case in (2, 3):
            problems.append(Problem(f"case{case}", "is bad"))
    if problems:
        raise DataError(problems)

with device.process_group():
    try:
        device.in_shares(make)
        said = "done"
    except DataError as error:
        said = sorted(problem.where for problem in error.problems)
    if device.rank() == 1 and sys.argv[1] == "gone":
        sys.exit(3)
    if sys.argv[1] == "gone":
        try:
            device.gather([1])
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
print("SAID " + json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["good", "bad", "gone"])
def test_processes_share_work_and_hear_of_each_others_failures(tmp_path: Path, how: str) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    processes = together(2, how, cwd=tmp_path, module="shared")
    outputs = [finish(process, 3 if how == "gone" and number else 0)[0] for number, process in enumerate(processes)]
    said = [json.loads(re.search(r"SAID (.*)", out)[1]) for out in outputs if "SAID" in out]  # type: ignore[index]
    assert [(tmp_path / f"case{number}").read_text() for number in range(6)] == ["0", "1"] * 3
    if how == "gone":
        assert len(said) == 1
        assert said[0].startswith("RunError: process 0 of 2: another process has ended")
    else:
        assert said == ["done" if how == "good" else ["case2", "case3"]] * 2


TRAINED = """
import pathlib
import torch
from medseg.engine import device

def threads():
    return [file.read_text().strip() for file in pathlib.Path("/proc/self/task").glob("*/comm")]

def train():
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    network.circle = [network]  # as Ignite's handlers make them
    network(torch.ones(1, 2)).sum().backward()
    device.gather([network.module.weight])

with device.process_group():
    train()
    assert any("gloo" in name for name in threads()), "nothing is shown"
print("LEFT", [name for name in threads() if "gloo" in name])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the names of threads are asked of Linux")
def test_no_thread_of_the_group_outlives_it(tmp_path: Path) -> None:
    """One that lets go of a tensor while Python ends aborts the process, and torchrun then kills the others."""
    (tmp_path / "trained.py").write_text(TRAINED)
    for process in together(2, cwd=tmp_path, module="trained"):
        assert "LEFT []" in finish(process)[0]


@pytest.mark.parametrize("call", [in_first_process, of_first_process])
def test_a_single_process_fails_as_it_does(call: Callable[..., object]) -> None:
    def fail() -> None:
        raise ConfigError(Problem("here", "is wrong"))

    with pytest.raises(ConfigError, match="is wrong") as caught:
        call(fail)
    assert caught.traceback[-1].name == "fail", "the traceback leads to where it comes from"


def test_a_single_process_gets_its_result() -> None:
    assert in_first_process(lambda: 3) == of_first_process(lambda: 3) == 3
    with pytest.raises(PartialFailure):
        of_first_process(lambda: (_ for _ in ()).throw(PartialFailure("no")))


def numpy_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_numpy_has_one_thread_beside_a_training_and_keeps_those_of_somebody_elses_process() -> None:
    with threadpool_limits(2, user_api="blas"):
        set_up()
        assert numpy_threads() == {2}
        prepare(0)
        assert numpy_threads() == {1}


def test_who_waits_for_long_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with device._waiting():
        pass
    monkeypatch.setattr(device, "SILENCE", timedelta(milliseconds=10))
    with device._waiting():
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 7, "each time after twice as long"
    assert all("process 0 of 1 has waited" in line and "120 min at most" in line for line in lines)


@pytest.mark.parametrize("place", [0, 1])
def test_what_all_processes_raise_the_first_says(place: int, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(device, "_place", lambda: place)
    error = device._told(RunError("the data have changed", "bring them back"))
    assert tell(error, []) == 2
    assert ("the data have changed" in capsys.readouterr().err) == (place == 0)
