"""A run killed at any moment and started again ends in the weights of an uninterrupted one."""

from __future__ import annotations

import pickle
import signal
import time
from pathlib import Path

import pytest
import torch

from medseg.config.errors import RunError
from medseg.engine.resume import load_safely, load_weights, save_atomically
from tests.tiny import finish, medseg, same_weights, train_arguments

EPOCHS = 6


def checkpoint_epoch(run: Path) -> int:
    path = run / "models" / "checkpoint.pt"
    return torch.load(path, weights_only=True)["epoch"] if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_run_ends_in_the_same_weights(tiny_msd, tmp_path: Path, workers: int) -> None:
    root = tiny_msd(cases=5)
    changes = {
        "training__max_epochs": EPOCHS,
        "training__iterations_per_epoch": 25,
        "training__weight_average": 0.9,
        "network__dropout": 0.2,  # draws from torch's generator
    }
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(medseg(*train_arguments(root, whole, **changes), cwd=tmp_path))
    arguments = train_arguments(root, broken, training__workers=workers, **changes)
    for kill_after_epoch in (1, 3):
        process = medseg(*arguments, cwd=tmp_path)
        deadline = time.monotonic() + 120
        while checkpoint_epoch(broken) < kill_after_epoch and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # somewhere inside the next epoch
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert kill_after_epoch <= checkpoint_epoch(broken) < EPOCHS, "the run was not killed in its middle"
    finish(medseg(*arguments, cwd=tmp_path))
    for name in ("model.pt", "checkpoint.pt"):
        one, other = (torch.load(run / "models" / name, weights_only=True) for run in (whole, broken))
        if name == "checkpoint.pt":
            assert [row["val/mean_dice"] for row in one["history"]] == [
                row["val/mean_dice"] for row in other["history"]
            ]
            one, other = one["network"], other["network"]
        assert all(torch.equal(one[key], other[key]) for key in one)
    columns = (broken / "history.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in columns[1:]] == list(range(1, EPOCHS + 1))


@pytest.mark.slow
def test_finished_run_trains_longer_and_refuses_another_config(tiny_msd, tmp_path: Path) -> None:
    root, run = tiny_msd(cases=4), tmp_path / "run"
    finish(medseg(*train_arguments(root, run), cwd=tmp_path))
    finish(medseg(*train_arguments(root, run, training__max_epochs=3), cwd=tmp_path))
    assert checkpoint_epoch(run) == 3
    _, error = finish(medseg(*train_arguments(root, run, network__widths=[4, 4]), cwd=tmp_path), expect=2)
    assert "network.widths" in error
    assert "--restart" in error
    finish(medseg(*train_arguments(root, run, network__widths=[4, 4]), "--restart", cwd=tmp_path))
    assert checkpoint_epoch(run) == 2

    checkpoint = run / "models" / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    _, error = finish(medseg(*train_arguments(root, run, network__widths=[4, 4]), cwd=tmp_path), expect=2)
    assert "checkpoint.pt: damaged" in error
    assert "Traceback" not in error
    assert checkpoint.stat().st_size == len(whole) // 2, "a damaged checkpoint is not replaced"
    checkpoint.unlink()
    _, error = finish(medseg(*train_arguments(root, run, network__widths=[4, 4]), cwd=tmp_path), expect=2)
    assert "checkpoint.pt: missing" in error


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_pickled_objects_and_foreign_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Trap()}, "model.pt")
    with pytest.raises(RunError, match="more than tensors"):
        load_safely(Path("model.pt"))
    Path("plain.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(RunError):
        load_safely(Path("plain.pt"))
    assert not Path("executed").exists()
    Path("empty.pt").touch()
    with pytest.raises(RunError, match="damaged"):
        load_safely(Path("empty.pt"))

    save_atomically({"weight": torch.zeros(2, 3), "extra": torch.zeros(1)}, Path("other.pt"))
    with pytest.raises(
        RunError, match=r"missing bias.*unexpected extra.*weight is \(2, 3\), the network's is \(3, 3\)"
    ):
        load_weights(torch.nn.Linear(3, 3), "other.pt")


def test_same_weights_sees_a_difference(tmp_path: Path) -> None:
    for name, value in {"a": 0.0, "b": 0.0, "c": 1e-7}.items():
        save_atomically({"w": torch.tensor([value])}, tmp_path / name)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")
