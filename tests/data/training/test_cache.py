from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor

from medseg.core.errors import DataError
from medseg.data.cases.case import as_cases
from medseg.data.training import cache as cache_module
from medseg.data.training import voxels
from medseg.data.training.apply import apply
from medseg.data.training.cache import CachedDataset
from medseg.data.training.identity import parameters
from medseg.data.training.transforms import Normalized, preprocessing

AFFINE = np.diag([-1.1, 0.9, 2.3, 1.0])


def cohort(folder: Path, count: int = 3) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    cases = []
    for number in range(count):
        case: dict[str, Any] = {"case": f"case{number}"}
        for key, values in {
            "image": random.normal(size=(6, 7, 5 + number)).astype(np.float32),
            "label": random.integers(0, 4, (6, 7, 5 + number)).astype(np.uint8),
        }.items():
            case[key] = str(folder / f"{key}{number}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(values, AFFINE), case[key])
        cases.append(case)
    return cases


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for key in ("image", "label"):
        assert isinstance(one[key], MetaTensor)
        assert one[key].dtype == other[key].dtype
        assert torch.equal(one[key].as_tensor(), other[key].as_tensor())
        assert torch.equal(one[key].affine, other[key].affine)
    assert torch.equal(one["native_affine"], other["native_affine"])
    assert one["native_affine"].dtype == torch.float64
    assert (one["native_shape"], one["case"]) == (other["native_shape"], other["case"])


def test_a_cached_case_is_the_computed_one(tmp_path: Path) -> None:
    data, transform = cohort(tmp_path), preprocessing(spacing_mm=(1.0, 1.0, 2.0))
    dataset = CachedDataset(data, transform, tmp_path / "cache", workers=2)
    dataset.fill()
    for number, case in enumerate(data):
        for one in (dataset, CachedDataset(data, transform, tmp_path / "cache")):
            same(one[number], apply(transform, case))
    assert len(dataset) == 3
    assert [case.entry() for case in dataset.data] == data


def test_it_is_computed_once_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, ran = cohort(tmp_path), []
    monkeypatch.setattr(cache_module, "apply", lambda transform, case: ran.append(case) or apply(transform, case))

    def runs(cases: list[dict[str, Any]], **options: Any) -> int:
        ran.clear()
        CachedDataset(cases, preprocessing(**options), tmp_path / "cache").fill()
        return len(ran)

    dataset = CachedDataset(data, preprocessing(), tmp_path / "cache")
    assert [dataset[0]["case"], dataset[0]["case"], len(ran)] == ["case0", "case0", 1]
    assert runs(data) == 2
    assert runs(data) == 0
    assert runs(data, orientation="LPS") == 3
    assert runs(data) == 0
    os.utime(data[1]["image"], ns=(1, 1))
    assert runs(data) == 1
    unlabelled = [{key: value for key, value in case.items() if key != "label"} for case in data]
    assert runs(unlabelled) == 3
    assert "label" not in CachedDataset(unlabelled, preprocessing(), tmp_path / "cache")[0]


def test_a_transform_that_was_used_finds_the_entries_of_an_unused_one(tmp_path: Path) -> None:
    """Training and validation share one transform, and what one fold trains on another holds out."""
    data, transform = cohort(tmp_path), preprocessing(spacing_mm=(1.0, 1.0, 2.0), crop_to_foreground=True)
    unused = json.dumps(parameters(transform))  # as text: MONAI's Spacing holds NaN
    CachedDataset(data[:1], transform, tmp_path / "cache").fill()
    assert json.dumps(parameters(transform)) == unused
    CachedDataset(data[:1], transform, tmp_path / "cache").fill()
    assert len(list((tmp_path / "cache").glob("*.json"))) == 1


def test_parameters_tell_transforms_apart() -> None:
    base: dict[str, Any] = {"orientation": "RAS", "spacing_mm": (1.0, 1.0, 1.0), "crop_to_foreground": True}
    changes: list[dict[str, Any]] = [
        {},
        {"orientation": "LPS"},
        {"spacing_mm": (1.0, 1.0, 1.1)},
        {"spacing_mm": None},
        {"crop_to_foreground": False},
        {"normalization": "ct"},
        {"normalization": "ct", "window_hu": (-160.0, 241.0)},
        {"keys": ("image",)},
    ]
    found = [json.dumps(parameters(preprocessing(**(base | change)))) for change in changes]
    assert len(set(found)) == len(changes)
    assert found == [json.dumps(parameters(preprocessing(**(base | change)))) for change in changes]
    assert parameters(Normalized(["image"])) != parameters(Normalized(["label"]))

    class Plain:
        __slots__ = ("size", "tool")

        def __init__(self, size: int) -> None:
            self.size, self.tool = size, object()

    assert parameters(Plain(1)) == parameters(Plain(1)) != parameters(Plain(2))


def test_damaged_entries_are_made_anew(tmp_path: Path) -> None:
    data = cohort(tmp_path, 1)
    expected = apply(preprocessing(), data[0])
    CachedDataset(data, preprocessing(), tmp_path / "cache").fill()
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 4
    for file in files:
        for damage in (lambda f: f.write_bytes(f.read_bytes()[:-9]), lambda f: f.write_bytes(b""), Path.unlink):
            damage(file)
            same(CachedDataset(data, preprocessing(), tmp_path / "cache")[0], expected)
    assert sorted((tmp_path / "cache").iterdir()) == files


def test_an_interrupted_write_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, real, saved = cohort(tmp_path, 1), np.save, []

    def stop_at_the_second(file: Any, array: np.ndarray) -> None:
        saved.append(array)
        if len(saved) == 2:
            file.write(b"half")
            raise KeyboardInterrupt
        real(file, array)

    monkeypatch.setattr(cache_module.np, "save", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        CachedDataset(data, preprocessing(), tmp_path / "cache").fill()
    assert not [file for file in (tmp_path / "cache").iterdir() if file.suffix == ".json" or file.name[0] == "."]
    same(CachedDataset(data, preprocessing(), tmp_path / "cache")[0], apply(preprocessing(), data[0]))


def test_writing_to_a_case_changes_no_file(tmp_path: Path) -> None:
    data = cohort(tmp_path, 1)
    dataset = CachedDataset(data, preprocessing(), tmp_path / "cache")
    dataset[0]["image"].mul_(0)
    same(CachedDataset(data, preprocessing(), tmp_path / "cache")[0], apply(preprocessing(), data[0]))


def test_all_bad_cases_are_told_at_once(tmp_path: Path) -> None:
    data = cohort(tmp_path)
    Path(data[0]["image"]).write_bytes(b"no image")
    nibabel.save(nibabel.Nifti1Image(np.full((6, 7, 7), 0.5, np.float32), AFFINE), data[2]["label"])
    with pytest.raises(DataError) as caught:
        CachedDataset(data, preprocessing(), tmp_path / "cache", workers=2).fill()
    assert [problem.where for problem in caught.value.problems] == [data[0]["image"], data[2]["label"]]


def test_voxels_are_listed_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = cohort(tmp_path, 1)
    for limit, folder in ((10**6, "all"), (7, "some")):
        monkeypatch.setattr(voxels, "VOXELS_A_VALUE", limit)
        entry = CachedDataset(data, preprocessing(), tmp_path / folder).entry(0)
        assert entry.label is not None
        flat = entry.label.flatten()
        assert set(entry.voxels) == {1, 2, 3}
        for value, (count, listed) in entry.voxels.items():
            assert count == int((flat == value).sum())
            assert (flat[listed.long()] == value).all()
            assert len(listed.unique()) == min(count, limit)


def test_many_cases_keep_no_file_open(tmp_path: Path) -> None:
    dataset = CachedDataset(cohort(tmp_path, 20), preprocessing(), tmp_path / "cache")
    before = len(os.listdir("/proc/self/fd"))
    held = [dataset[number] for number in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert len(held) == 20


def test_the_voxels_beside_a_header_count(tmp_path: Path) -> None:
    label = SimpleITK.GetImageFromArray(np.ones((5, 6, 7), np.uint8))
    data = cohort(tmp_path, 1)
    data[0]["label"] = str(tmp_path / "label.mhd")
    label.SetSpacing((1.1, 0.9, 2.3))
    SimpleITK.WriteImage(label, data[0]["label"])
    keys = []
    for second in (1, 2):
        os.utime(tmp_path / "label.raw", (second, second))
        keys.append(CachedDataset(data, preprocessing(), tmp_path / "cache")._stem(as_cases(data)[0]))
    assert keys[0] != keys[1]
    (tmp_path / "label.raw").unlink()
    with pytest.raises(DataError, match=r"label\.raw: no such file"):
        CachedDataset(data, preprocessing(), tmp_path / "cache").fill()
