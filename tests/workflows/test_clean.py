"""`medseg clean` frees what can be made again, and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from medseg.core.errors import RunError
from medseg.runs.disk import run_cache
from medseg.runs.folder import read_run
from medseg.runs.folds import all_fold_runs, fold_folders, fold_runs
from medseg.workflows.clean import clean
from medseg.workflows.evaluate import evaluate


def copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder))


def contents(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def write(file: Path, size: int, *, hours_ago: float = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    then = time.time() - hours_ago * 3600
    os.utime(file, (then, then))


def test_a_run_loses_its_cache_and_works_as_before(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = copied(trained[0], tmp_path / "run")
    before = contents(run)
    cached = {name for name in before if name.startswith("cache/")}
    shown = clean(run)
    assert contents(run) == before, "it only shows"
    assert shown.size == sum((run / name).stat().st_size for name in cached)
    assert "can be freed" in shown.text()
    assert "the next training preprocesses the cases again" in shown.text()
    freed = clean(run, free=True)
    assert freed.size == shown.size
    assert contents(run) == before - cached
    assert "nothing can be made again" in clean(run).text()
    assert evaluate(run, output=tmp_path / "eval")["cases"] == 2


def test_what_is_of_a_kind_goes_and_what_looks_like_it_stays(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = copied(trained[0], tmp_path / "run")
    clean(run, free=True)
    before = contents(run)
    write(run / "eval" / "masks_raw" / "a.nii.gz", 100)
    write(run / "eval-other" / "masks_raw" / "a.nii.gz", 20)
    write(run / "eval-crf" / "masks" / "a.nii.gz", 3)
    write(run / "models" / ".writing-1-checkpoint.pt", 4000, hours_ago=2)
    write(run / "models" / "model.pt.tmp", 50000, hours_ago=2)
    freed = clean(run, free=True)
    assert freed.size == 54123
    assert contents(run) == before
    assert {one.kind for one in freed.found} == {"raw masks", "CRF trial", "temporary"}
    kept = {"models/.writing-2-model.pt", "cache/notes.txt", "eval-crf/report.html", "eval-crf/masks/a.nii.gz"}
    for name in kept:  # being written; a user's own; an evaluation of a data set that is called crf
        write(run / name, 1)
    clean(run, free=True)
    assert contents(run) == before | kept


def test_masks_stay_where_nothing_could_predict_them_again(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = copied(trained[0], tmp_path / "run")
    write(run / "eval" / "masks_raw" / "a.nii.gz", 100)
    write(run / "eval-crf" / "masks" / "a.nii.gz", 100)
    (run / "models" / "model.pt").unlink()
    assert {one.kind for one in clean(run, free=True).found} == {"cache"}
    assert (run / "eval" / "masks_raw" / "a.nii.gz").exists()
    assert (run / "eval-crf" / "masks" / "a.nii.gz").exists()


def test_links_and_what_lies_elsewhere_are_left_alone(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = copied(trained[0], tmp_path / "run")
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (run / "cache").rename(elsewhere / "cache")
    (run / "cache").symlink_to(elsewhere / "cache")
    write(elsewhere / "eval" / "masks_raw" / "a.nii.gz", 100)
    (run / "eval-linked").symlink_to(elsewhere / "eval")
    before = contents(elsewhere)
    freed = clean(run, free=True)
    assert freed.found == ()
    assert contents(elsewhere) == before
    assert "not touched" in freed.text()


def test_folds_share_a_cache_that_goes_with_the_folder_only(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run = copied(crossed[0], tmp_path / "run")
    original = contents(crossed[0])
    before = contents(run)
    write(run / "fold_1" / "models" / ".writing-1-model.pt", 10, hours_ago=2)
    write(run / ".writing-1-splits.json", 10, hours_ago=2)
    fold = clean(run / "fold_0", free=True)
    assert fold.found == ()
    assert [str(path) for path in fold.shared] == [read_run(run / "fold_0").config.data.cache], "where it was trained"
    freed = clean(run, free=True)
    assert sorted(one.kind for one in freed.found) == ["cache", "temporary", "temporary"]
    assert contents(run) == {name for name in before if not name.startswith("cache/")}
    assert contents(crossed[0]) == original


def test_a_cache_in_any_folder_of_the_run_loses_its_entries_alone(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run = copied(trained[0], tmp_path / "run")
    clean(run, free=True)
    before = contents(run)
    text = (run / "config.yaml").read_text()
    assert "cache: null" in text
    (run / "config.yaml").write_text(text.replace("cache: null", f"cache: {run}"))
    found = read_run(run)
    run_cache(found.config, found.facts, [], run)
    write(run / f"{'0a' * 16}.json", 10)
    assert [one.kind for one in clean(run, free=True).found] == ["cache"]
    assert contents(run) == before


def test_what_cannot_be_removed_is_named(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(trained[0], tmp_path / "run")

    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self.parent.name == "cache":
            raise PermissionError(13, "Permission denied", str(self))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RunError, match="cannot be removed: Permission denied") as caught:
        clean(run, free=True)
    assert str(run / "cache") in caught.value.problems[0].where


@pytest.mark.parametrize("name", ["", "eval", "no_such_folder"])
def test_only_a_run_is_cleaned(trained: tuple[Path, Path], name: str, tmp_path: Path) -> None:
    folder = tmp_path if not name else trained[0] / name
    with pytest.raises(RunError, match="no run of medseg"):
        clean(folder, free=True)


@pytest.mark.parametrize("place", ["mine", "fold_0/mine"])
def test_a_cache_of_a_name_of_its_own_in_the_folder_of_folds(
    place: str, crossed: tuple[Path, Path], tmp_path: Path
) -> None:
    run = copied(crossed[0], tmp_path / "run")
    before = contents(run)
    (run / "cache").rename(run / place)
    for fold in ("fold_0", "fold_1"):
        text = (run / fold / "config.yaml").read_text()
        (run / fold / "config.yaml").write_text(text.replace(read_run(run / fold).config.data.cache, str(run / place)))
    assert (clean(run).shared, clean(run / "fold_1").shared) == ((), (run / place,))
    freed = clean(run, free=True)
    assert [(one.kind, one.place) for one in freed.found] == [("cache", run / place)]
    assert contents(run) == {name for name in before if not name.startswith("cache/")}


def test_a_copy_of_a_fold_is_no_fold(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run = copied(crossed[0], tmp_path / "run")
    folds = [run / "fold_0", run / "fold_1"]
    for name in ("fold_0_backup", "fold_", "fold_x", "fold_-1", "fold_00"):
        shutil.copytree(run / "fold_1", run / name)
    write(run / "fold_0_backup" / "eval" / "masks_raw" / "a.nii.gz", 10)
    (run / "fold_10" / "models").mkdir(parents=True)
    assert fold_folders(run) == [*folds, run / "fold_10"]
    assert fold_runs(run) == all_fold_runs(run) == folds
    assert "raw masks" not in {one.kind for one in clean(run).found}


def test_logs_of_failures_are_listed_once_and_go(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run = copied(crossed[0], tmp_path / "run")
    clean(run, free=True)
    before = contents(run)
    for name in ("medseg-error-20260101-000000-1.log", "fold_0/medseg-error-20260101-000000-2.log"):
        write(run / name, 100)
    shown = clean(run)
    assert shown.size == 200
    assert "error log: tracebacks of commands that failed" in shown.text()
    clean(run, free=True)
    assert contents(run) == before
