"""The room that a run needs: what is said is what it takes, and too little is refused before anything is written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from medseg.config.schema import Config
from medseg.core.errors import RunError
from medseg.data.cases.dataset import read_dataset
from medseg.data.training.entries import stored_entries
from medseg.planning.disk import planned_disk
from medseg.planning.fingerprint import fingerprint
from medseg.runs import disk as module
from medseg.runs.disk import Disk, cache_disk, run_cache
from medseg.runs.folder import open_run, read_run
from medseg.workflows.plan import plan
from medseg.workflows.train import train
from tests.conftest import write_msd
from tests.tiny import tiny_config


def needed(config: Config, root: Path, folder: Path, trained: tuple[Path, Path]) -> Disk:
    facts, dataset = read_run(trained[0]).facts, read_dataset(root)
    return cache_disk(run_cache(config, facts, dataset.cases, folder))


def test_a_trained_run_needs_nothing_more_and_anew_what_its_cache_takes(trained: tuple[Path, Path]) -> None:
    run, root = trained
    config = read_run(run).config
    there = needed(config, root, run, trained)
    assert there.needed == 0
    assert "nothing more" in there.text()
    anew = needed(config, root, run.parent / "other", trained)
    taken = sum(entry.size for entry in stored_entries(run / "cache"))
    assert anew.needed == pytest.approx(taken, rel=0.1)
    assert str(run.parent / "other" / "cache") in anew.text()
    assert not (run.parent / "other").exists()


@pytest.mark.parametrize("spacing", [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
@pytest.mark.parametrize("crop", [False, True])
def test_a_plan_and_a_run_estimate_the_same(trained: tuple[Path, Path], spacing: list[float], crop: bool) -> None:
    run, root = trained
    changes = {"preprocessing__spacing_mm": spacing, "preprocessing__crop_to_foreground": crop}
    config = tiny_config(root, **changes)
    measured = fingerprint(read_dataset(root), "MR", progress=False)
    planned = planned_disk(measured, config, run.parent / "new")
    assert planned.needed == pytest.approx(needed(config, root, run.parent / "new", trained).needed, rel=0.15)


def full(monkeypatch: pytest.MonkeyPatch, free: int = 1000) -> None:
    for name in ("medseg.runs.disk", "medseg.planning.disk"):
        monkeypatch.setattr(f"{name}.free_disk", lambda folder: free)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_full_disk_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    root = write_msd(tmp_path / "data", cases=4)
    full(monkeypatch)
    with pytest.raises(RunError, match=r"need about .* are free") as caught:
        train(tiny_config(root), run=tmp_path / "run", dry_run=dry_run)
    assert caught.value.exit_code == 2
    assert "data.cache=DIR" in caught.value.problems[0].remedy
    assert not (tmp_path / "run").exists()
    assert "KiB for preprocessed cases" in capsys.readouterr().out


def test_a_full_disk_costs_no_earlier_run(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, root = trained
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.is_file() and "cache" not in file.parts}
    full(monkeypatch)
    config = read_run(run).config
    finer = config.preprocessing.model_copy(update={"spacing_mm": [0.5, 0.5, 0.5]})
    with pytest.raises(RunError, match="are free"):
        open_run(config.model_copy(update={"preprocessing": finer}), run, read_dataset(root), restart=True)
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_plan_for_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_msd(tmp_path / "data", cases=4)
    full(monkeypatch)
    with pytest.raises(RunError, match="are free"):
        plan(root, output=tmp_path / "plan.yaml", progress=False)
    assert not (tmp_path / "plan.yaml").exists()


def test_damaged_cases_do_not_hide_the_size_of_the_others(trained: tuple[Path, Path], tmp_path: Path) -> None:
    root = write_msd(tmp_path / "data", cases=4, channels=("T1", "T2"))
    config, folder = tiny_config(root), tmp_path / "run"
    whole = needed(config, root, folder, trained).needed
    files = sorted((root / "imagesTr").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:-2000])
    assert needed(config, root, folder, trained).needed == pytest.approx(whole, rel=0.2)
    for file in files:
        file.write_bytes(b"no image")
    unknown = needed(config, root, folder, trained)
    assert unknown.needed is None
    assert "unknown" in unknown.text()
    unknown.check()  # filling the cache will name every one


def test_opening_a_run_removes_what_nobody_used_and_keeps_its_own(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = trained
    config, run = tiny_config(root), tmp_path / "run"
    folder = run / "cache"
    cache = run_cache(config, read_run(trained[0]).facts, read_dataset(root).cases, run)
    cache.fill()
    (folder / f"{'0' * 32}.json").write_text("{}")
    (folder / f"{'0' * 32}.image.npy").write_bytes(bytes(2**20))
    long_ago = time.time() - 60 * 24 * 3600
    for file in folder.iterdir():
        os.utime(file, (long_ago, long_ago))
    folder.rename(tmp_path / "cache")  # a run begins in an empty folder
    config = tiny_config(root, data__cache=str(tmp_path / "cache"))
    open_run(config, run, read_dataset(root))
    out = capsys.readouterr().out
    assert "removed 1 cases that nobody has used for 30 days (1 MiB)" in out
    assert "disk: nothing more" in out
    assert len(stored_entries(tmp_path / "cache")) == len(cache)


def test_few_cases_are_looked_at(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked: list[str] = []
    real = module.apply

    def counted(transform: object, case: dict) -> dict:
        looked.append(case["case"])
        return real(transform, case)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "apply", counted)
    needed(read_run(trained[0]).config, trained[1], tmp_path / "new", trained)
    assert len(looked) == module.PROBED
