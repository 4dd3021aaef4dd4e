from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from medseg.core.errors import RunError
from medseg.workflows.review import review


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        review(tmp_path / "nothing")
    with pytest.raises(RunError, match="no run folder"):
        review(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(RunError, match="train first"):
        review(tmp_path)


def test_tensorboard_gets_the_log_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.1").touch()
    (tmp_path / "report.html").touch()
    review(tmp_path, port=7000)
    assert commands[0][1:] == ["-m", "tensorboard.main", "--logdir", str(tmp_path / "tensorboard"), "--port", "7000"]
    assert str(tmp_path / "report.html") in capsys.readouterr().out


def test_a_port_that_is_taken_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.1").touch()
    with pytest.raises(RunError, match="--port 6007"):
        review(tmp_path)
