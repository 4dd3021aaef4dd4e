"""The verbs that say what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.config.load import load_config


def test_configs_lists_shows_and_copies(medseg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = medseg("configs")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"brain", "demo", "hippocampus"}
    _, shown, _ = medseg("configs", "brain")
    assert "Command:" in shown
    assert medseg("configs", "brain", "--copy")[0] == 0
    assert Path("brain.yaml").read_text() == shown
    code, _, err = medseg("configs", "brain", "--copy")
    assert code == 2
    assert "exists already" in err
    assert "did you mean 'brain'" in medseg("configs", "brian")[2]


def test_validate(medseg: Any, tmp_path: Path) -> None:
    assert medseg("validate", "demo")[0] == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nnetwrk: {}\n")
    code, out, err = medseg("validate", str(bad), "--set", "training.max_epochs=0")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "2 problems",
        f"{bad}:2 netwrk: unknown key 'netwrk'",
        "    -> did you mean 'network'?",
        "--set training.max_epochs=0: must be greater than or equal to 1 (got 0)",
    ]


def test_validate_for_machines(medseg: Any, tmp_path: Path) -> None:
    code, out, _ = medseg("validate", "hippocampus", "--set", "seed=3", "--json")
    assert code == 0
    assert json.loads(out)["config"] == load_config("hippocampus", ["seed=3"]).model_dump(mode="json")
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nnetwrk: {}\n")
    code, out, _ = medseg("validate", str(bad), "--json")
    assert code == 2
    assert json.loads(out)["problems"][0]["remedy"] == "did you mean 'network'?"
    assert json.loads(medseg("validate", "--schema")[1])["title"] == "Config"


def test_networks_for_machines_and_a_size_that_is_none(medseg: Any) -> None:
    code, out, err = medseg(
        "networks", "unet", "--dims", "3", "--size", "8,16,16", "--set", "network.widths=[4,8]", "--json"
    )
    assert (code, err) == (0, "")
    (row,) = json.loads(out)["networks"]
    assert row["options"] == {"widths": [4, 8]}
    assert row["forward_seconds"] > 0
    code, out, err = medseg("networks", "unet", "--size", "64,x")
    assert (code, out) == (2, "")
    assert "'64,x' is not a size" in err
