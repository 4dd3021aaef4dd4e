"""Whoever trains hears of what `check` finds: errors before the first step, warnings once."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.inspection import IMPOSSIBLE
from medseg.data.cases.judge import Judge
from medseg.data.cases.values import meanings
from medseg.data.files import images
from medseg.data.files.spacing import SAY_IT
from medseg.data.training.cache import CachedDataset
from medseg.data.training.transforms import preprocessing

LABELS = Labels({"background": 0, "ball": 1}, ignore_index=4, also_ignored=(5,))


def cases(folder: Path, values: list[int], constant: int = -1) -> list[Case]:
    found = []
    for number, value in enumerate(values):
        voxels = np.random.default_rng(number).normal(size=(6, 6, 6)).astype(np.float32)
        voxels = np.zeros_like(voxels) if number == constant else voxels
        label = np.zeros((6, 6, 6), np.uint8)
        label[2:4, 2:4, 2:4] = value
        for kind, array in (("image", voxels), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{kind}{number}.nii")
        found.append(Case(f"c{number}", (str(folder / f"image{number}.nii"),), str(folder / f"label{number}.nii")))
    return found


def cached(folder: Path, some: list[Case], labels: Labels = LABELS) -> CachedDataset:
    transform = preprocessing(values=meanings(labels))
    return CachedDataset(some, transform, folder / "cache", judge=Judge(("T1",), labels))


@pytest.mark.parametrize("seed", range(5))
def test_values_without_a_meaning_are_refused_with_file_value_and_count(seed: int, tmp_path: Path) -> None:
    values = np.random.default_rng(seed).integers(0, 256, 6).tolist()
    some = cases(tmp_path, values)
    strange = {case.name: value for case, value in zip(some, values, strict=True) if value not in (0, 1, 4, 5)}
    with pytest.raises(DataError) as caught:
        cached(tmp_path, some).fill()
    told = {Path(problem.where).name: problem.what for problem in caught.value.problems}
    assert told == {f"label{name[1:]}.nii": f"holds values that are no classes here: {value} (8 voxels)"
                    for name, value in strange.items()}  # fmt: skip


def test_known_values_of_a_config_are_not_another_ones(tmp_path: Path) -> None:
    some = cases(tmp_path, [1, 4, 5])
    cached(tmp_path, some).fill()
    with pytest.raises(DataError, match=r"5 \(8 voxels\)"):
        cached(tmp_path, some, Labels({"background": 0, "ball": 1}, ignore_index=4)).fill()


def test_warnings_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = cases(tmp_path, [1, 1, 0], constant=1)
    cached(tmp_path, some).fill()
    said = capsys.readouterr().err
    assert said.count("warning: image without contrast in 1 cases: c1") == 1
    assert len(said.splitlines()) == 1
    cached(tmp_path, some).fill()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("measured", [1, 32])
def test_a_spacing_that_no_case_can_have_is_said_once_of_all(
    measured: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.data.cases.judge.MEASURED", measured)
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((40, 40, 12)), (4, 4, 0.8))
    some = []
    for number in range(3):
        nibabel.save(nibabel.Nifti1Image((smooth + number).astype(np.float32), np.eye(4)), tmp_path / f"{number}.nii")
        some.append(Case(f"c{number}", (str(tmp_path / f"{number}.nii"),)))
    transform, judge = preprocessing(keys=["image"]), Judge(("T1",), LABELS)
    CachedDataset(some, transform, tmp_path / "cache", judge=judge).fill()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {IMPOSSIBLE}: all 3 cases say 1 x 1 x 1 mm, which cannot be true")
    assert line.endswith(f"({SAY_IT})")
    alone = CachedDataset(some, transform, tmp_path / "again", judge=Judge(("T1",), LABELS, compares=False))
    alone.fill()
    assert capsys.readouterr().err == ""


def test_files_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode = images._decoded

    def counting(path: Path, *, label: bool) -> images.Image:
        decoded.append(path.name)
        return decode(path, label=label)

    monkeypatch.setattr(images, "_decoded", counting)
    cached(tmp_path, cases(tmp_path, [1, 0])).fill()
    assert sorted(decoded) == ["image0.nii", "image1.nii", "label0.nii", "label1.nii"]
