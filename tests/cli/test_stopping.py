"""A real process that gets SIGINT or SIGTERM: what it says, what it has saved, and how it goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import write_msd
from tests.processes import Module
from tests.tiny import finish, medseg, same_weights, together, torchrun, train_arguments

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]
STEPS = 25
LONG = {
    "training__max_epochs": 2,
    "training__iterations_per_epoch": STEPS,
    "training__workers": 0,
    "training__weight_average": 0.9,
    "training__patch_growth": 0.7,
    "network__dropout": 0.2,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set, and the run of a training that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    root = write_msd(folder / "data", cases=4)
    finish(medseg(*train_arguments(root, folder / "run", **LONG), cwd=folder))
    return root, folder / "run"


def _stopped(process: Module, when: Callable[[], bool], by: signal.Signals, within: float = 300) -> tuple[int, str]:
    """Send the signal as soon as something is so; exit code and standard error."""
    until = time.monotonic() + 120
    while not when() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert process.poll() is None, process.finish()
    process.signal(by)
    code, _, error = process.finish(within)
    return code, error


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_training_is_saved_at_the_step_and_goes_on_to_the_same_weights(
    whole: tuple[Path, Path], tmp_path: Path, by: signal.Signals
) -> None:
    (root, reference), run = whole, tmp_path / "run"
    arguments = train_arguments(root, run, **LONG)
    process = medseg(*arguments, cwd=tmp_path)
    checkpoint = run / "models" / "checkpoint.pt"
    code, error = _stopped(process, checkpoint.exists, by)  # that of the first epoch: the second is going on
    assert code == 128 + by, error
    state = torch.load(checkpoint, weights_only=True)
    steps = state["begun"]["steps"]
    assert state["epoch"] >= 1
    assert 0 < steps < STEPS
    assert f"stopped by {by.name}: {state['epoch']} epochs and {steps} of {STEPS} steps of training is saved" in error
    assert "the same command goes on from there" in error
    assert "Traceback" not in error
    assert not [*run.rglob(".writing-*"), *run.rglob(".medseg-lock")]
    finish(medseg(*arguments, cwd=tmp_path))
    assert same_weights(reference / "models" / "model.pt", run / "models" / "model.pt")
    first, second = (torch.load(one / "models" / "checkpoint.pt", weights_only=True) for one in (reference, run))
    assert [row["train/loss"] for row in first["history"]] == [row["train/loss"] for row in second["history"]]
    assert "begun" not in second


def test_a_prediction_ends_at_once_and_goes_on(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = trained
    output = tmp_path / "masks"
    arguments = ["predict", "--run", run, "--input", data / "imagesTr", "--output", output]
    code, error = _stopped(medseg(*arguments, cwd=tmp_path), lambda: output.is_dir(), signal.SIGTERM)
    assert code == 143, error
    assert "stopped by SIGTERM: what was finished is saved" in error
    assert "Traceback" not in error
    finish(medseg(*arguments, cwd=tmp_path))
    assert len(list(output.glob("*.nii.gz"))) == 6
    assert not [*output.rglob(".writing-*"), *output.rglob(".medseg-lock")]


SLOW_TO_READ = """
import time
from medseg.cli import main
from medseg.data.training import cache

apply = cache.apply

def slowly(*arguments):
    time.sleep(0.5)
    return apply(*arguments)

cache.apply = slowly
main()
"""


def test_a_training_is_stopped_before_its_first_step(whole: tuple[Path, Path], tmp_path: Path) -> None:
    """While it preprocesses: the cases that are done stay, and the end is the same."""
    (root, reference), run = whole, tmp_path / "run"
    (tmp_path / "slow.py").write_text(SLOW_TO_READ)
    arguments = train_arguments(root, run, **LONG)
    process = medseg(*arguments, cwd=tmp_path, module="slow")
    code, error = _stopped(process, lambda: len([*run.glob("cache/*.json")]) == 1, signal.SIGTERM)
    assert code == 143, error
    said = [line for line in error.splitlines() if "preprocess" not in line]
    assert said == ["stopped by SIGTERM: what was finished is saved, and the same command goes on from there"]
    kept = {file: file.stat().st_ino for file in run.glob("cache/*.json")}
    assert 0 < len(kept) < 4
    assert not (run / "models" / "checkpoint.pt").exists()
    assert not [*run.rglob(".writing-*"), *run.rglob(".medseg-lock")]
    finish(medseg(*arguments, cwd=tmp_path))
    assert {file: file.stat().st_ino for file in kept} == kept
    assert same_weights(reference / "models" / "model.pt", run / "models" / "model.pt")


def test_torchrun_is_asked_to_stop(whole: tuple[Path, Path], tmp_path: Path) -> None:
    """It passes SIGTERM on to both processes, which end in time; the same command goes on from a step or an epoch."""
    root, run = whole[0], tmp_path / "run"
    arguments = train_arguments(root, run, **LONG)
    process = torchrun(2, *arguments, cwd=tmp_path)
    _, error = _stopped(process, (run / "models" / "checkpoint.pt").exists, signal.SIGTERM, within=60)
    assert "of training is saved, and the same command goes on from there" in error
    assert not [*run.rglob(".writing-*"), *run.rglob(".medseg-lock")]
    state = torch.load(run / "models" / "checkpoint.pt", weights_only=True)
    assert 0 < state["begun"]["steps"] < STEPS
    out = "".join(finish(process)[0] for process in together(2, *arguments, cwd=tmp_path))
    assert out.count("finished in") == 1
    history = (run / "history.csv").read_text().splitlines()
    assert len(history) == 3, "a row of each epoch"


@pytest.fixture(scope="module")
def whole_of_two(whole: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a training of two processes that nobody stopped."""
    folder = tmp_path_factory.mktemp("two")
    for process in together(2, *train_arguments(whole[0], folder / "run", **LONG), cwd=folder):
        finish(process)
    return folder / "run"


@pytest.mark.parametrize("who", [(0,), (1,), (0, 1), (1, 1, 0, 0)])
def test_processes_stop_after_the_same_step_whoever_is_asked(
    whole: tuple[Path, Path], whole_of_two: Path, tmp_path: Path, who: tuple[int, ...]
) -> None:
    run, checkpoint = tmp_path / "run", tmp_path / "run" / "models" / "checkpoint.pt"
    arguments = train_arguments(whole[0], run, **LONG)
    processes = together(2, *arguments, cwd=tmp_path)
    until = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < until:
        time.sleep(0.02)
    for number in who:
        processes[number].signal(signal.SIGTERM)
    ends = [process.finish(60) for process in processes]
    assert [code for code, *_ in ends] == [143, 143], ends
    begun = torch.load(checkpoint, weights_only=True)["begun"]["steps"]
    assert 0 < begun < STEPS
    for _, _, error in ends:
        assert f"stopped by SIGTERM: 1 epochs and {begun} of {STEPS} steps of training is saved" in error
        assert "Traceback" not in error
    assert not [*run.rglob(".writing-*"), *run.rglob(".medseg-lock")]
    for process in together(2, *arguments, cwd=tmp_path):
        finish(process)
    assert same_weights(whole_of_two / "models" / "model.pt", run / "models" / "model.pt")
