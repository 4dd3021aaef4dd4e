"""The verbs of a run that is there."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from medseg.bundle.facts import describe_data
from medseg.config.load import dump_config, load_config
from medseg.core.errors import DataError, PartialFailure, Problem


def test_json_leaves_only_json_on_stdout(medseg: Any, replace: Any) -> None:
    replace("medseg.workflows.evaluate", "evaluate", {"mean_dice": 0.9})
    code, out, err = medseg("evaluate", "--run", "x", "--json")
    assert (code, json.loads(out)) == (0, {"mean_dice": 0.9})
    assert "chatter" in err
    calls = replace("medseg.workflows.predict", "predict", [Path("out/a.nii.gz")])
    _, out, _ = medseg("predict", "--run", "x", "--input", "in", "--output", "out", "--uncertainty", "--json")
    assert json.loads(out) == {"masks": ["out/a.nii.gz"]}
    options: dict[str, Any] = {"input": Path("in"), "output": Path("out"), "overwrite": False, "postprocess": True}
    options |= {"coding": None, "formats": ["auto"], "probabilities": False, "uncertainty": True, "any_scan": False}
    assert calls == [(([Path("x")],), options)]


def test_json_of_a_cohort_of_which_some_failed(medseg: Any, replace: Any) -> None:
    failure = PartialFailure([Problem("case_1", "is empty", "remove it")], result={"mean_dice": 0.9})
    replace("medseg.workflows.evaluate", "evaluate", failure)
    code, out, err = medseg("evaluate", "--run", "x", "--json")
    assert code == 1
    problem = {"where": "case_1", "what": "is empty", "remedy": "remove it"}
    assert json.loads(out) == {"mean_dice": 0.9, "problems": [problem]}
    assert "error: case_1: is empty" in err
    replace("medseg.workflows.predict", "predict", DataError("no image"))
    assert medseg("predict", "--run", "x", "--input", "in", "--output", "out", "--json")[:2] == (2, "")


def run_folder(folder: Path) -> Path:
    """A run as far as `clean` looks at it, with an entry in its cache."""
    config = load_config("demo")
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_config(config))
    (folder / "data.json").write_text(describe_data(config).to_json())
    (folder / "cache").mkdir()
    (folder / "cache" / f"{'a' * 32}.image.npy").write_bytes(bytes(2048))
    return folder


def test_clean_only_shows_without_a_terminal_and_frees_when_told(medseg: Any, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    code, out, err = medseg("clean", str(run))
    assert (code, err) == (0, "")
    assert "2 KiB can be freed" in out
    assert "nothing is removed: give --yes" in out
    assert json.loads(medseg("clean", str(run), "--json")[1])["bytes"] == 2048
    assert (run / "cache").is_dir()
    code, out, _ = medseg("clean", str(run), "--yes", "--json")
    assert (code, json.loads(out)["freed"]) == (0, True)
    assert not (run / "cache").exists()
    assert "nothing can be made again" in medseg("clean", str(run))[1]


@pytest.mark.parametrize(("answer", "stays"), [("n\n", True), ("y\n", False)])
def test_clean_asks_on_a_terminal(
    medseg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, stays: bool
) -> None:
    run = run_folder(tmp_path / "run")
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    medseg("clean", str(run))
    assert (run / "cache").exists() is stays


def test_clean_is_for_runs_only(medseg: Any, tmp_path: Path) -> None:
    code, _, err = medseg("clean", str(tmp_path), "--yes")
    assert code == 2
    assert "no run of medseg" in err
