"""What lies in a cache, and what goes because nobody uses it."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest

from medseg.data.training.cache import CachedDataset
from medseg.data.training.entries import KEPT_DAYS, remove_unused, stored_entries
from medseg.data.training.size import VOXELS_A_VALUE, entry_bytes
from medseg.data.training.transforms import preprocessing
from tests.conftest import write_msd


def cached(root: Path, folder: Path, **options: object) -> CachedDataset:
    names = sorted((root / "imagesTr").iterdir())
    data = [{"image": str(name), "label": str(root / "labelsTr" / name.name)} for name in names]
    return CachedDataset(data, preprocessing(**options), folder)  # type: ignore[arg-type]


def age(folder: Path, days: float) -> None:
    """As if every file had last been used so many days ago."""
    then = time.time() - days * 24 * 3600
    for file in folder.iterdir():
        os.utime(file, (then, then))


def test_an_entry_is_its_files_and_as_large_as_the_formula_says(tmp_path: Path) -> None:
    root = write_msd(tmp_path / "data", cases=3)
    dataset = cached(root, tmp_path / "cache")
    assert len(dataset.missing()) == 3
    dataset.entry(0)
    assert [case.name for case in dataset.missing()] == [case.name for case in dataset.data[1:]]
    dataset.fill()
    assert dataset.missing() == []
    (tmp_path / "cache" / "notes.txt").write_text("mine")
    entries = stored_entries(tmp_path / "cache")
    assert [len(entry.files) for entry in entries] == [4, 4, 4]
    assert {entry.files[0].suffix for entry in entries} == {".json"}, "it goes first: without it there is no entry"
    labels = [dataset[number]["label"].as_tensor().numpy() for number in range(3)]
    told = sum(entry_bytes(one.size, 1, counts=np.bincount(one.ravel())[1:].tolist()) for one in labels)
    arrays = [file for entry in entries for file in entry.files if file.suffix == ".npy"]
    assert sum(file.stat().st_size for file in arrays) == told + 128 * len(arrays), "each has a header"


def test_bytes_stay_bytes_and_lists_are_limited() -> None:
    assert entry_bytes(1000, 3, bytes_a_value=1) == 4000
    assert entry_bytes(1000, 2, labelled=False) == 8000
    assert entry_bytes(0, 1, counts=[10, VOXELS_A_VALUE + 5]) == 4 * (10 + VOXELS_A_VALUE)


def test_what_nobody_has_used_for_long_goes_and_what_is_used_stays(tmp_path: Path) -> None:
    root, folder = write_msd(tmp_path / "data", cases=2), tmp_path / "cache"
    now, earlier = cached(root, folder), cached(root, folder, spacing_mm=(2, 2, 2))
    for dataset in (now, earlier):
        dataset.fill()
    (folder / "notes.txt").write_text("mine")
    age(folder, KEPT_DAYS - 1)
    assert remove_unused(folder) == [], "another run may come back to it"
    age(folder, KEPT_DAYS + 1)
    removed = now.tidy()
    assert len(removed) == 2
    assert not any(file.exists() for entry in removed for file in entry.files)
    assert now.missing() == []
    assert len(earlier.missing()) == 2
    assert (folder / "notes.txt").exists()
    assert earlier[0]["image"].shape == (1, 10, 12, 16), "it is computed again"


def test_marking_makes_no_entry_and_a_missing_folder_holds_none(tmp_path: Path) -> None:
    dataset = cached(write_msd(tmp_path / "data", cases=1), tmp_path / "cache")
    assert dataset.tidy() == []
    assert not (tmp_path / "cache").exists()
    assert stored_entries(tmp_path / "cache") == remove_unused(tmp_path / "cache") == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
@pytest.mark.parametrize("removable", [False, True])
def test_in_another_users_cache_nothing_of_the_run_goes_and_nothing_stops_it(
    number: int, removable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may not be touched, and be removed only where the folder may be written."""
    root, folder = write_msd(tmp_path / "data", cases=2), tmp_path / "cache"
    now, earlier = cached(root, folder), cached(root, folder, spacing_mm=(2, 2, 2))
    for dataset in (now, earlier):
        dataset.fill()
    age(folder, KEPT_DAYS + 1)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "utime", refuse)
    if not removable:
        monkeypatch.setattr(Path, "unlink", refuse)
    assert len(now.tidy()) == (2 if removable else 0)
    assert now.missing() == []
    assert len(earlier.missing()) == (2 if removable else 0)


def test_a_disk_that_fails_is_no_other_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    cached(write_msd(tmp_path / "data", cases=1), folder).fill()
    age(folder, KEPT_DAYS + 1)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        remove_unused(folder)
