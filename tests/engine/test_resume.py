"""A run killed at any moment and started again ends in the weights of an uninterrupted one."""

from __future__ import annotations

import csv
import pickle
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medseg.config.load import load_config
from medseg.core.errors import RunError
from medseg.engine.resume import Checkpoints, load_safely, load_weights, save_atomically
from tests.pictures import LIGHT, pairs_overrides, write_pairs
from tests.tiny import finish, medseg, same_weights, train_arguments

EPOCHS = 6


def checkpoint_epoch(run: Path) -> int:
    path = run / "models" / "checkpoint.pt"
    return torch.load(path, weights_only=True)["epoch"] if path.exists() else 0


def kill_in_epoch(epoch: int, arguments: list[str], run: Path) -> None:
    """Start a training and end it with SIGKILL somewhere inside an epoch."""
    process = medseg(*arguments, cwd=run.parent)
    deadline = time.monotonic() + 120
    while checkpoint_epoch(run) < epoch - 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    process.kill()
    code, _, error = process.finish()
    assert code == -signal.SIGKILL, f"it ended before it was killed\n{error}"
    assert epoch - 1 <= checkpoint_epoch(run) < EPOCHS, "the run was not killed in its middle"


def assert_same_run(whole: Path, broken: Path) -> None:
    """Weights, averaged weights and moments bit by bit, and every figure of the history but the minutes."""
    assert same_weights(*(run / "models" / "model.pt" for run in (whole, broken)))
    one, other = (torch.load(run / "models" / "checkpoint.pt", weights_only=True) for run in (whole, broken))
    for part in ("network", "average"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][key], other[part][key]) for key in one[part]), part
    for number, moments in one["optimizer"]["state"].items():
        assert all(torch.equal(moments[key], other["optimizer"]["state"][number][key]) for key in moments)
    assert all(one[key] == other[key] for key in ("epoch", "best_epoch", "best_metric"))
    histories = [[{**row, "minutes": 0} for row in state["history"]] for state in (one, other)]
    assert histories[0] == histories[1]
    rows = [list(csv.DictReader((run / "history.csv").open())) for run in (whole, broken)]
    assert [int(row["epoch"]) for row in rows[0]] == list(range(1, EPOCHS + 1))
    assert [{**row, "minutes": 0} for row in rows[0]] == [{**row, "minutes": 0} for row in rows[1]]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.campaign)])
def test_killed_run_ends_in_the_same_weights(tiny_msd, tmp_path: Path, workers: int) -> None:
    root = tiny_msd(cases=5)
    changes = {
        "training__max_epochs": EPOCHS,
        "training__iterations_per_epoch": 25,
        "training__weight_average": 0.9,
        "training__patch_growth": 0.7,
        "network__dropout": 0.2,  # draws from torch's generator
    }
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(medseg(*train_arguments(root, whole, **changes), cwd=tmp_path))
    arguments = train_arguments(root, broken, training__workers=workers, **changes)
    for epoch in (2, 4):
        kill_in_epoch(epoch, arguments, broken)
    finish(medseg(*arguments, cwd=tmp_path))
    assert_same_run(whole, broken)


@pytest.mark.slow
@pytest.mark.campaign
def test_killed_run_on_pictures_ends_in_the_same_weights(tmp_path: Path) -> None:
    """Crops at random scales, changed colours, weights of classes and an average of the weights, by steps."""
    overrides = [
        *LIGHT,
        *pairs_overrides(write_pairs(tmp_path / "pairs")),
        "training.iterations_per_epoch=10",
        f"training.max_iterations={10 * EPOCHS - 3}",  # the last epoch is a short one
        "training.validation_interval=2",
        "training.weight_average=0.9",
        "training.workers=1",
        "inference.scales=[1]",
    ]
    config = load_config("camvid_cpu", overrides)
    assert config.augmentation.crop_scale == [0.5, 2.0]
    assert config.augmentation.photometric is not None
    assert config.loss.class_weights == "sqrt_median_frequency"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = ["train", "--config", "camvid_cpu", *(x for one in overrides for x in ("--set", one))]
    finish(medseg(*arguments, "--run", whole, cwd=tmp_path))
    for epoch in (2, 4):
        kill_in_epoch(epoch, [*arguments, "--run", str(broken)], broken)
    finish(medseg(*arguments, "--run", broken, cwd=tmp_path))
    assert_same_run(whole, broken)


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


def engine_of(network: torch.nn.Module) -> Any:
    """As much of a trainer as a checkpoint is loaded into."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    budget = SimpleNamespace(load_state_dict=lambda state: state["seconds"], is_over=False, allowance=None)
    state = SimpleNamespace(device="cpu", epoch_length=1)
    return SimpleNamespace(
        network=network, optimizer=optimizer, gradient_scaler=scaler, budget=budget, state=state, average=None
    )


def checkpoint_of(network: torch.nn.Module) -> dict[str, Any]:
    engine = engine_of(network)
    return {
        "network": network.state_dict(),
        "optimizer": engine.optimizer.state_dict(),
        "scaler": engine.gradient_scaler.state_dict(),
        "epoch": 1,
        "history": [],
        "seconds": 1.0,
    }


def test_a_checkpoint_of_something_else_is_said_to_be_one(tmp_path: Path) -> None:
    network, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
    whole = checkpoint_of(network)
    save_atomically(whole, tmp_path / "checkpoint.pt")
    Checkpoints(str(tmp_path)).load(engine_of(network))
    two_groups = torch.optim.SGD([{"params": [one]} for one in network.parameters()], lr=0.1)
    foreign: list[tuple[Any, str]] = [({key: whole[key] for key in whole if key != left}, left) for left in whole]
    foreign += [(whole | {key: 3}, "of another version") for key in ("network", "optimizer")]
    foreign += [
        (checkpoint_of(other), r"weight is \(3, 2\), the network's is \(2, 2\)"),
        (whole | {"optimizer": two_groups.state_dict()}, "no checkpoint of this run"),
        (network.state_dict(), "no checkpoint of this run"),
        ([1, 2], "no checkpoint of this run"),
    ]
    for content, words in foreign:
        save_atomically(content, tmp_path / "checkpoint.pt")
        with pytest.raises(RunError, match=rf"checkpoint.pt: [^\n]*{words}") as caught:
            Checkpoints(str(tmp_path)).load(engine_of(network))
        assert caught.value.problems[0].remedy
        assert len(str(caught.value)) < 500
