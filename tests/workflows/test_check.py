"""Every kind of bad input, made as real tiny NIfTI files, is found, named and does not hide the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import DataError
from medseg.data.phantom import write_phantom
from medseg.workflows.check import check

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (6, 7, 5)


def _save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def _write(root: Path, cases: int = 3, channels: int = 1, **more: Any) -> Path:
    """A sound MSD data set: every case has 8 voxels of class 1 and 4 of class 2."""
    rng = np.random.default_rng(0)
    shape = SHAPE if channels == 1 else (*SHAPE, channels)
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 1:3, 1:3], label[4, 3:5, 1:3] = 1, 2
    training = []
    for number in range(cases):
        image_file, label_file = f"imagesTr/case_{number}.nii.gz", f"labelsTr/case_{number}.nii.gz"
        _save(root / image_file, rng.normal(size=shape).astype(np.float32))
        _save(root / label_file, label)
        training.append({"image": image_file, "label": label_file})
    description = {
        "name": "Tiny",
        "modality": {str(index): f"channel{index}" for index in range(channels)},
        "labels": {"0": "background", "1": "liver", "2": "tumour"},
        "training": training,
        **more,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def _kinds(root: Path) -> list[tuple[str, str, str]]:
    report = check(root, progress=False)
    assert report.exit_code == (2 if report.problems else 0)
    assert len(report.cases) == len(report.dataset.cases) + len(report.dataset.unlabelled)  # everybody was looked at
    json.dumps(report.as_dict(), allow_nan=False)
    return [(finding.level, finding.kind, finding.case) for finding in report.findings]


def test_sound_data_has_no_findings_and_true_counts(tmp_path: Path) -> None:
    report = check(_write(tmp_path), progress=False)
    assert report.findings == ()
    assert report.exit_code == 0
    liver, tumour = report.classes()
    assert (liver["name"], liver["cases"], liver["voxels"], liver["mean_components"]) == ("liver", 3, 24, 1.0)
    assert (tumour["name"], tumour["cases"], tumour["voxels"], tumour["mean_components"]) == ("tumour", 3, 12, 1.0)
    assert liver["median_volume_ml"] == pytest.approx(8 * 2 * 2 * 3 / 1000)
    assert report.memory["largest_case"] == 6 * 7 * 5 * (4 + 1)
    assert report.memory["all_cases"] == 3 * 6 * 7 * 5 * (4 + 1)
    text = report.text()
    assert "nothing to mend" in text
    assert "RAS (3)" in text
    assert "2 x 2 x 3" in text


def test_components_are_counted_apart(tmp_path: Path) -> None:
    root = _write(tmp_path, cases=1)
    label = np.zeros(SHAPE, np.uint8)
    label[0, 0, 0] = label[1, 1, 0] = label[5, 6, 4] = label[5, 5, 4] = 1  # a diagonal neighbour is no face neighbour
    _save(root / "labelsTr/case_0.nii.gz", label)
    assert check(root, progress=False).cases[0].components == {"liver": 3, "tumour": 0}


def _missing(root: Path) -> None:
    (root / "imagesTr/case_1.nii.gz").unlink()


def _truncated(root: Path) -> None:
    file = root / "imagesTr/case_1.nii.gz"
    file.write_bytes(file.read_bytes()[:200])


def _damaged_label(root: Path) -> None:
    (root / "labelsTr/case_1.nii.gz").write_text("not an image")


def _label(root: Path, change: Any, affine: np.ndarray = AFFINE, dtype: Any = np.float32) -> None:
    file = root / "labelsTr/case_1.nii.gz"
    array = np.asarray(nib.load(file).dataobj).astype(dtype)
    _save(file, change(array), affine)


def _image(root: Path, change: Any) -> None:
    file = root / "imagesTr/case_1.nii.gz"
    _save(file, change(np.array(nib.load(file).dataobj)))


def _put(value: float) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array[0, 0, 0] = value
        return array

    return change


def _moved(origin: float = 0.0, spacing: float = 2.0, angle: float = 0.0) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 0], affine[0, 3] = spacing, origin
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine


def _same(array: np.ndarray) -> np.ndarray:
    return array


GRID = "label on another grid than its image"


@pytest.mark.parametrize(
    ("damage", "kind", "told"),
    [
        (_missing, "missing file", "imagesTr/case_1.nii.gz"),
        (_truncated, "unreadable image", "case_1.nii.gz"),
        (_damaged_label, "unreadable label", "case_1.nii.gz"),
        (lambda root: _label(root, lambda a: a[:, :, :-1]), GRID, "shape"),
        (lambda root: _label(root, _same, _moved(spacing=2.2)), GRID, "spacing"),
        (lambda root: _label(root, _same, _moved(origin=5)), GRID, "origin"),
        (lambda root: _label(root, _same, _moved(angle=0.2)), GRID, "direction"),
        (lambda root: _label(root, _put(7)), "unexpected label values", "7 (1 voxels)"),
        (lambda root: _label(root, _put(0.5)), "label values that are no classes", "0.5"),
        (lambda root: _label(root, _put(np.nan)), "label values that are no classes", "nan"),
        (lambda root: _label(root, _put(-1), dtype=np.int16), "label values that are no classes", "-1"),
        (lambda root: _image(root, _put(np.nan)), "NaN or infinite voxels", "1 NaN, 0 infinite"),
        (lambda root: _image(root, _put(-np.inf)), "NaN or infinite voxels", "0 NaN, 1 infinite"),
        (lambda root: _image(root, lambda a: np.stack([a, a], -1)), "wrong number of channels", "2 in the file"),
    ],
)
def test_bad_input_is_an_error_of_its_case_only(tmp_path: Path, damage: Any, kind: str, told: str) -> None:
    root = _write(tmp_path)
    damage(root)
    assert [found for found in _kinds(root) if found[0] == "error"] == [("error", kind, "case_1")]
    report = check(root, progress=False)
    assert report.exit_code == 2
    assert told in report.text()
    assert "case_1" in report.text()
    assert "->" in report.text()  # a remedy
    assert [case.voxels for case in report.cases if case.case != "case_1"] == [{"liver": 8, "tumour": 4}] * 2


def test_all_findings_at_once_even_beside_missing_and_unreadable_files(tmp_path: Path) -> None:
    root = _write(tmp_path, cases=4)
    _missing(root)
    (root / "imagesTr/case_0.nii.gz").write_bytes(b"\x1f\x8b damaged")
    _save(root / "labelsTr/case_0.nii.gz", np.full(SHAPE, 9, np.uint8))  # the image is unreadable, the label is wrong
    _save(root / "imagesTr/case_2.nii.gz", np.full(SHAPE, np.nan, np.float32))
    assert {found[1:] for found in _kinds(root) if found[0] == "error"} == {
        ("missing file", "case_1"),
        ("unreadable image", "case_0"),
        ("unexpected label values", "case_0"),
        ("NaN or infinite voxels", "case_2"),
    }


def test_a_header_that_differs_by_float_noise_is_the_same_grid(tmp_path: Path) -> None:
    root = _write(tmp_path)
    _label(root, _same, _moved(origin=0.01, spacing=2.0001))
    assert _kinds(root) == []


def test_a_healthy_subject_is_nothing_wrong(tmp_path: Path) -> None:
    root = _write(tmp_path, cases=7)
    _label(root, np.zeros_like)
    assert _kinds(root) == []
    for number in range(7):
        _save(root / f"labelsTr/case_{number}.nii.gz", np.zeros(SHAPE, np.uint8))
    assert ("error", "no label has anything in it", "") in _kinds(root)


def test_a_mask_of_black_and_white_gets_the_hint(tmp_path: Path) -> None:
    root = _write(tmp_path, labels={"0": "background", "1": "liver"})
    for number in range(3):
        _save(
            root / f"labelsTr/case_{number}.nii.gz", np.eye(6, 7, dtype=np.uint8)[..., None] * np.full(5, 255, np.uint8)
        )
    text = " ".join(check(root, progress=False).text().split())
    assert "255 (30 voxels)" in text
    assert "255 is white of a mask of black and white: give the class the value 255, or write 0 and 1" in text
    assert "no label has anything" not in text


def test_channels_first_is_recognised(tmp_path: Path) -> None:
    root = _write(tmp_path, channels=4)
    _image(root, lambda array: np.moveaxis(array, -1, 0))
    report = check(root, progress=False)
    remedies = [problem.remedy for problem in report.problems if "channels" in problem.what]
    assert remedies == ["the channels seem to come first: write them last"]


def test_nnunet_channels_on_different_grids_and_a_missing_channel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.ones(SHAPE, np.uint8)
    for case in ("a", "b", "c"):
        for channel in range(2):
            affine = _moved(origin=8) if (case, channel) == ("a", 1) else AFFINE
            _save(tmp_path / f"imagesTr/{case}_000{channel}.nii.gz", rng.normal(size=SHAPE), affine)
        _save(tmp_path / f"labelsTr/{case}.nii.gz", label)
    (tmp_path / "imagesTr/b_0001.nii.gz").unlink()
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    description = {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": labels, "regions_class_order": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    found = _kinds(tmp_path)
    assert ("error", "channels on different grids", "a") in found
    assert ("error", "missing file", "b") in found
    assert len([one for one in found if one[0] == "error"]) == 2
    rows = {row["name"]: row for row in check(tmp_path, progress=False).classes()}
    assert rows["whole"]["voxels"] == 3 * label.size
    assert rows["core"]["cases"] == 0


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    root = _write(tmp_path, cases=6, test=["imagesTs/case_9.nii.gz"])
    (root / "imagesTs").mkdir()
    (root / "imagesTs/case_9.nii.gz").write_bytes((root / "imagesTr/case_2.nii.gz").read_bytes())  # a leak
    _save(root / "imagesTr/case_0.nii.gz", np.full(SHAPE, 3, np.int16))
    nameless = nib.Nifti1Image(np.random.default_rng(1).normal(size=SHAPE), AFFINE)
    nameless.set_sform(AFFINE, 0)
    nameless.set_qform(AFFINE, 0)
    nib.save(nameless, root / "imagesTr/case_4.nii.gz")
    for number in range(4):
        _save(root / f"labelsTr/case_{number}.nii.gz", np.eye(6, 7, dtype=np.uint8)[..., None] * np.ones(5, np.uint8))
    found = set(_kinds(root))
    assert {
        ("warning", "image without contrast", "case_0"),
        ("warning", "image that is there twice", "case_9"),
        ("warning", "header that does not say how the patient lies", "case_4"),
        ("warning", "rare class", ""),
    } <= found
    assert check(root, progress=False).text().count("tumour: in 2 of 6 cases") == 1


def test_text_groups_findings_and_stays_on_one_screen(tmp_path: Path) -> None:
    root = _write(tmp_path, cases=40)
    for number in range(30):
        _save(root / f"labelsTr/case_{number}.nii.gz", np.full(SHAPE, 5, np.uint8))
    text = check(root, progress=False).text()
    assert text.count("unexpected label values") == 1
    assert "in 30 cases: case_0, case_1, " in text
    assert "and 24 more" in text
    assert text.endswith("30 errors, 0 warnings")
    assert len(text.splitlines()) < 40


def test_contradictions_of_the_description_are_reported_with_the_cases(tmp_path: Path) -> None:
    root = _write(tmp_path, labels={"0": "background", "1": "liver", "2": "liver"})
    _image(root, _put(np.nan))
    kinds = {found[1] for found in _kinds(root) if found[0] == "error"}
    assert {"dataset.json and the folder disagree", "NaN or infinite voxels"} <= kinds


def test_nothing_to_look_at_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no dataset\.json"):
        check(tmp_path)


def test_quiet_without_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(_write(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_the_phantom_is_sound(tmp_path: Path) -> None:
    write_phantom(tmp_path, cases=6, unlabelled=1, shape=(24, 24, 24))
    report = check(tmp_path, progress=False)
    assert report.problems == []
    assert len(report.cases) == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cases", "orientation"),
    [("Task04_Hippocampus", 208, "RAS"), ("Dataset015_BraTS2modal", 4, "LPS"), ("Task01_BrainTumour_slabs", 2, "RAS")],
)
def test_real_data_sets_are_sound(test_data: Path, name: str, cases: int, orientation: str) -> None:
    if not (test_data / name).is_dir():
        pytest.skip(f"MEDSEG_TEST_DATA has no {name}")
    report = check(test_data / name, progress=False)
    assert report.problems == []
    assert report.as_dict()["orientations"] == {orientation: cases}
