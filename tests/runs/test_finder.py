"""Two stages in one folder, before anything is trained: what a new beginning keeps, and what an ensemble does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medseg.bundle.ensemble import compile_members
from medseg.data.cases.dataset import read_dataset
from medseg.engine.resume import CHECKPOINT
from medseg.runs.disk import run_cache
from medseg.runs.folder import Opened, open_run
from tests.conftest import write_msd
from tests.tiny import tiny_config

TWO: dict[str, Any] = {"finder__spacing_mm": [4.0, 4.0, 4.0], "finder__patch_size": [8, 8, 8]}


def opened(root: Path, run: Path, *, restart: bool = False, **changes: Any) -> Opened:
    return open_run(tiny_config(root, **changes), run, read_dataset(root), restart=restart)


def fill(opened: Opened) -> list[Path]:
    """Preprocess the training cases of both stages; the files of the entries."""
    stages = opened.run.stages
    cases = opened.split.cases(opened.dataset, "training")
    for stage in stages:
        run_cache(stage.config, stage.facts, cases, stage.folder).fill()
    return [file for stage in stages for file in (stage.folder / "cache").iterdir()]


def test_a_new_beginning_keeps_the_caches_of_both_stages(tmp_path: Path) -> None:
    root, run = write_msd(tmp_path / "data", cases=4), tmp_path / "run"
    entries = fill(opened(root, run, **TWO))
    old = [run / stage / "models" / CHECKPOINT for stage in (".", "finder")]
    for file in old:
        file.parent.mkdir()
        file.touch()
    opened(root, run, restart=True, **TWO)
    assert not any(file.exists() for file in old)
    assert all(file.exists() for file in entries)
    opened(root, run, restart=True)
    assert not (run / "finder").exists(), "one stage has no finder"


def test_a_training_that_goes_on_needs_no_more_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = write_msd(tmp_path / "data", cases=4), tmp_path / "run"
    first = opened(root, run, **TWO)
    fill(first)
    finder = first.run.finder
    assert finder is not None
    run_cache(finder.config, finder.facts, first.split.cases(first.dataset, "validation"), finder.folder).fill()
    capsys.readouterr()
    opened(root, run, **TWO)
    assert capsys.readouterr().out.count("nothing more") == 1, "held-out cases wait for the finder"
    (run / "models").mkdir()
    (run / "models" / CHECKPOINT).touch()
    opened(root, run, **TWO)
    assert capsys.readouterr().out.count("nothing more") == 2


def test_no_worker_process_reads_for_an_ensemble_with_a_finder(tmp_path: Path) -> None:
    root = write_msd(tmp_path / "data", cases=4)
    one = opened(root, tmp_path / "one", training__workers=2).run
    two = opened(root, tmp_path / "two", training__workers=2, **TWO).run
    workers = [
        compile_members("inference", members)["dataloader"]["workers"] for members in ([one, one], [one, two], [two])
    ]
    assert workers == [2, 0, 0]
