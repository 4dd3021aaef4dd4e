"""Whoever trains hears of what `check` finds: errors before the first step, warnings once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import PIL.Image
import pytest
from scipy import ndimage

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.data.cases.across import across
from medseg.data.cases.case import Case
from medseg.data.cases.inspection import IMPOSSIBLE, inspect_case
from medseg.data.cases.judge import Judge, from_plain, to_plain
from medseg.data.cases.values import meanings
from medseg.data.files import images
from medseg.data.files.spacing import SAY_IT
from medseg.data.training.cache import CachedDataset
from medseg.data.training.transforms import LoadCased, preprocessing
from medseg.engine.filling import fill_caches
from tests.tiny import finish, together

LABELS = Labels({"background": 0, "ball": 1}, ignore_index=4, also_ignored=(5,))
SLICES = np.diag([1.0, 1.0, 2.0, 1.0])  # noise of few voxels would let doubt an isotropic spacing


def cases(folder: Path, values: list[int], constant: int = -1) -> list[Case]:
    found = []
    for number, value in enumerate(values):
        voxels = np.random.default_rng(number).normal(size=(6, 6, 6)).astype(np.float32)
        voxels = np.zeros_like(voxels) if number == constant else voxels
        label = np.zeros((6, 6, 6), np.uint8)
        label[2:4, 2:4, 2:4] = value
        for kind, array in (("image", voxels), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(array, SLICES), folder / f"{kind}{number}.nii")
        found.append(Case(f"c{number}", (str(folder / f"image{number}.nii"),), str(folder / f"label{number}.nii")))
    return found


def cached(
    folder: Path, some: list[Case], labels: Labels = LABELS, channels: tuple[str, ...] = ("T1",)
) -> CachedDataset:
    transform = preprocessing(values=meanings(labels))
    return CachedDataset(some, transform, folder / "cache", judge=Judge(channels, labels))


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


def said(folder: Path, some: list[Case], capsys: pytest.CaptureFixture[str], fails: str = "", **options: Any) -> str:
    """What a training says of its cases while it fills its cache."""
    if fails:
        with pytest.raises(DataError, match=fails):
            fill_caches(str(folder), cached(folder, some, **options))
    else:
        fill_caches(str(folder), cached(folder, some, **options))
    return capsys.readouterr().err


def resumable(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "checkpoint.pt").touch()


FLAT = "warning: image without contrast in 1 cases: c1"


def test_warnings_are_said_once_and_not_again_by_a_training_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = cases(tmp_path, [1, 1, 1], constant=1)
    first = said(tmp_path, some, capsys)
    assert first.count(FLAT) == 1
    assert len(first.splitlines()) == 1
    assert said(tmp_path, some, capsys) == first  # another training that finds the entries
    resumable(tmp_path)
    assert said(tmp_path, some, capsys) == ""


def test_a_training_that_goes_on_says_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tmp_path, cases(tmp_path, [1, 1]), capsys) == ""
    resumable(tmp_path)
    assert FLAT in said(tmp_path, cases(tmp_path, [1, 1], constant=1), capsys)


@pytest.mark.parametrize("bad", range(3))
def test_what_another_case_refuses_loses_no_warning(
    bad: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [1] * 4
    values[bad if bad != 1 else 3] = 9
    some = cases(tmp_path, values, constant=1)
    assert said(tmp_path, some, capsys, fails=r"9 \(8 voxels\)").count(FLAT) == 1
    assert said(tmp_path, cases(tmp_path, [1] * 4, constant=1), capsys).count(FLAT) == 1


def test_a_killed_filling_loses_no_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = cases(tmp_path, [1, 1, 1], constant=1)
    cached(tmp_path, some[:2]).fill()  # and nobody said anything
    assert capsys.readouterr().err == ""
    assert said(tmp_path, some, capsys).count(FLAT) == 1


def test_entries_that_others_judged_or_nobody_are_judged_again_and_keep_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = cases(tmp_path, [1, 1], constant=1)
    CachedDataset(some, preprocessing(values=meanings(LABELS)), tmp_path / "cache").fill()
    assert FLAT in said(tmp_path, some, capsys)
    decoded = counted(monkeypatch)
    assert FLAT in said(tmp_path, some, capsys)
    assert decoded == []
    assert "CT that is not in HU in 1 cases: c0" in said(tmp_path, some, capsys, channels=("CT",))


def slabs(folder: Path, number: int, thick: int = 1, shape: tuple[int, ...] = (32, 32, 32)) -> list[Case]:
    """Volumes of 1 mm, of which each slice in truth stands for several."""
    found = []
    for case in range(number):
        random = np.random.default_rng(case)
        smooth = ndimage.gaussian_filter(random.normal(size=(*shape[:2], shape[2] * thick)), 3)[..., ::thick]
        label = np.zeros(shape, np.uint8)
        label[2:4, 2:4, 2:4] = 1
        for kind, array in (("image", (9000 * smooth).astype(np.int16)), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{kind}{case}.nii")
        found.append(Case(f"c{case}", (str(folder / f"image{case}.nii"),), str(folder / f"label{case}.nii")))
    return found


@pytest.mark.parametrize(
    ("thick", "shape", "doubted"),
    [(1, (32, 32, 32), False), (4, (32, 32, 32), True), (1, (132, 130, 8), True), (1, (132, 130, 60), False)],
)
def test_a_training_doubts_the_spacing_as_check_does(
    thick: int, shape: tuple[int, ...], doubted: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = slabs(tmp_path, 5, thick, shape)
    found = [one.detail for one in across([inspect_case(case, ["T1"], LABELS) for case in some])]
    text = said(tmp_path, some, capsys)
    assert bool(found) == ("spacing that cannot be true" in text) == doubted
    assert all(detail.split(",")[0] in text for detail in found)


def test_copies_and_rare_classes_are_said_as_check_says_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = cases(tmp_path, [1, 1, 0, 1, 0, 1])
    shutil.copy(some[0].first, some[4].first)
    text = said(tmp_path, some, capsys)
    facts = [inspect_case(case, ["T1"], LABELS) for case in some]
    found = list(across(facts))
    assert {one.kind for one in found} == {"image that is there twice", "rare class"}
    assert len(text.splitlines()) == 2
    assert all(f"{one.kind}" in text and one.detail in text for one in found)


@pytest.mark.parametrize("measured", [1, 4])
def test_a_spacing_that_no_case_can_have_is_said_once_of_all(
    measured: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.data.cases.judge.SAMPLE", measured)
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((40, 40, 12)), (4, 4, 0.8))
    some = []
    for number in range(3):
        nibabel.save(nibabel.Nifti1Image((smooth + number).astype(np.float32), np.eye(4)), tmp_path / f"{number}.nii")
        some.append(Case(f"c{number}", (str(tmp_path / f"{number}.nii"),)))
    dataset = CachedDataset(some, preprocessing(keys=["image"]), tmp_path / "cache", judge=Judge(("T1",), LABELS))
    fill_caches(str(tmp_path), dataset)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {IMPOSSIBLE}: all 3 cases say 1 x 1 x 1 mm, which cannot be true")
    assert line.endswith(f"({SAY_IT})")


@pytest.mark.parametrize("seed", range(4))
def test_what_reading_found_judges_as_looking_does(seed: int, tmp_path: Path) -> None:
    """Whatever number of files, channels, types and missing channels: the same warnings, the same voxels."""
    random = np.random.default_rng(seed)
    channels = int(random.integers(1, 4))
    files = []
    for number in range(channels):
        array = random.normal(30, 9, (9, 8, 7)).astype(random.choice(["int16", "float32", "uint8"]))
        array = np.full_like(array, 3) if random.random() < 0.4 else array
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"i{number}.nii")
        files.append(str(tmp_path / f"i{number}.nii"))
    label = random.choice([0, 1, 4, 5], size=(9, 8, 7)).astype(random.choice(["uint8", "int16", "float32"]))
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), tmp_path / "l.nii")
    given = (None, *files[1:]) if channels > 2 else tuple(files)
    case, names = Case("c", given, str(tmp_path / "l.nii")), ["T1", "CT", "T2"][:channels]
    options: dict[str, Any] = {"spacing_mm": (1.5, 1.5, 1.5), "crop_to_foreground": True} if seed % 2 else {}
    loaded = preprocessing(values=meanings(LABELS), missing=True, **options)(case.entry())
    judged, looked = Judge(names, LABELS)(case, loaded), inspect_case(case, names, LABELS)
    assert judged.findings == [one for one in looked.findings if one.level == "warning"]
    assert judged.voxels == looked.voxels
    assert judged.voxels is not None
    assert (judged.shape, judged.spacing_mm, judged.channels) == (looked.shape, looked.spacing_mm, looked.channels)
    assert from_plain(json.loads(json.dumps(to_plain(judged)))) == judged


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded from now on."""
    decoded: list[str] = []
    decode = images._decoded

    def counting(path: Path, *, label: bool) -> images.Image:
        decoded.append(path.name)
        return decode(path, label=label)

    monkeypatch.setattr(images, "_decoded", counting)
    return decoded


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_files_are_decoded_once(channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []
    for number in range(channels):
        (one,) = cases(tmp_path, [1])
        files.append(str(Path(one.first).rename(tmp_path / f"channel{number}.nii")))
    decoded = counted(monkeypatch)
    cached(tmp_path, [Case("c", tuple(files), one.label)], channels=("T1",) * channels).fill()
    assert sorted(decoded) == [*(Path(file).name for file in files), "label0.nii"]


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pictures_one_file_a_channel_are_images(channels: int, ending: str, tmp_path: Path) -> None:
    files = []
    for number in range(channels):
        files.append(str(tmp_path / f"{number}.{ending}"))
        picture = np.random.default_rng(number).integers(0, 256, (20, 24), dtype=np.uint8)
        PIL.Image.fromarray(picture).save(files[-1])
    case = Case("c", tuple(files))
    assert inspect_case(case, ["grey"] * channels, LABELS).findings == []
    assert LoadCased(keys=["image"], spatial_dims=2)(case.entry())["image"].shape[0] == channels


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_one_pixel_is_contrast(kind: type, layout: str, tmp_path: Path) -> None:
    """However few voxels are looked at first."""
    array = np.full((300, 211), 7, kind, order=layout)  # type: ignore[call-overload]
    for place, warned in ((None, True), ((1, 1), False), ((299, 210), False)):
        picture = array.copy()
        if place:
            picture[place] = 8
        nibabel.save(nibabel.Nifti1Image(picture[..., None], np.eye(4)), tmp_path / "i.nii")
        found = Judge(["T1"], LABELS)(Case("c", (str(tmp_path / "i.nii"),)), {}).findings
        assert [one.kind for one in found] == ["image without contrast"] * warned


RANKS = """
import sys
from tests.data.training.test_judged import cached, listed_cases
from medseg.core.errors import DataError
from medseg.engine import device
from medseg.engine.filling import fill_caches
from tests.tiny import finish, together
from pathlib import Path

with device.process_group():
    folder, some = Path.cwd(), listed_cases(Path.cwd(), 8)
    try:
        fill_caches(str(folder), cached(folder, some[:4]), cached(folder, device.shard(some[4:])))
        print("FILLED")
    except DataError as error:
        print("REFUSED", *sorted(Path(problem.where).name for problem in error.problems))
"""


def listed_cases(folder: Path, number: int) -> list[Case]:
    names = [(str(folder / f"image{one}.nii"), str(folder / f"label{one}.nii")) for one in range(number)]
    return [Case(f"c{one}", (image,), label) for one, (image, label) in enumerate(names)]


@pytest.mark.slow
@pytest.mark.parametrize("bad", [(), (1, 2), (4, 6, 7)])
def test_of_several_processes_one_says_all_once(bad: tuple[int, ...], tmp_path: Path) -> None:
    """Of the training, and of all that is held out; what is refused in any share, every process hears."""
    cases(tmp_path, [9 if number in bad else 1 for number in range(8)])
    for flat in (0, 3, 5):
        image = nibabel.Nifti1Image(np.full((6, 6, 6), flat, np.int16), SLICES)
        nibabel.save(image, tmp_path / f"image{flat}.nii")
    (tmp_path / "ranks.py").write_text(RANKS)
    done = [finish(process) for process in together(2, cwd=tmp_path, module="ranks")]
    expected = " ".join(["REFUSED", *(f"label{number}.nii" for number in bad)]) if bad else "FILLED"
    assert [out.strip() for out, _ in done] == [expected] * 2
    warned = [line for _, err in done for line in err.splitlines() if line.startswith("warning: ")]
    there = "c0, c3" if 1 in bad else "c0, c3, c5"
    assert warned == [line for line in done[0][1].splitlines() if line.startswith("warning: ")]
    assert len(warned) == 1
    assert f"image without contrast in {len(there.split())} cases: {there}:" in warned[0]
