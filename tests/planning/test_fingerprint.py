"""What a data set measures, on files whose numbers are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import DataError
from medseg.data.cases.dataset import read_dataset
from medseg.planning.fingerprint import Fingerprint, fingerprint


def measure(root: Path) -> Fingerprint:
    return fingerprint(read_dataset(root), "MR", progress=False)


@pytest.fixture
def boxes(tmp_path: Path) -> Callable[..., Path]:
    """Volumes with a bright box of class 1 on top of a box of class 2, written with any orientation."""

    def write(codes: list[str], shape: tuple[int, ...] = (20, 30, 10), spacing: tuple = (1.0, 2.0, 3.0)) -> Path:
        for folder in ("imagesTr", "labelsTr"):
            (tmp_path / folder).mkdir()
        for number, code in enumerate(codes):
            image, label = np.zeros(shape, np.int16), np.zeros(shape, np.uint8)
            label[4:8, 5:10, 6:8], label[4:8, 5:10, 2:4] = 1, 2
            image[2:12, 5:10, 1:9] = 7  # the rest is background
            image[label == 1], image[label == 2] = 100, 50
            for folder, array in (("imagesTr", image), ("labelsTr", label)):
                written = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
                turn = nib.orientations.ornt_transform(
                    nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code)
                )
                nib.save(written.as_reoriented(turn), tmp_path / folder / f"case_{number:02d}.nii.gz")
        description = {
            "name": "boxes",
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "top", "2": "bottom"},
            "training": [
                {"image": f"imagesTr/case_{n:02d}.nii.gz", "label": f"labelsTr/case_{n:02d}.nii.gz"}
                for n in range(len(codes))
            ],
        }
        (tmp_path / "dataset.json").write_text(json.dumps(description))
        return tmp_path

    return write


def test_measures_one_volume_the_same_however_it_is_turned(boxes: Callable[..., Path]) -> None:
    found = measure(boxes(["RAS", "LPS", "SLA", "PIR"]))
    assert [case.orientation for case in found.cases] == ["RAS", "LPS", "SLA", "PIR"]
    for case in found.cases:
        assert case.shape == (20, 30, 10)
        assert case.spacing_mm == (1.0, 2.0, 3.0)
        assert case.cropped_shape == (10, 5, 8)
        assert case.target_box == (4, 5, 6)
        assert case.voxels == {"top": 40, "bottom": 40}
        assert case.components == {"top": 1, "bottom": 1}
        assert case.centres_mm == {"top": (5.5, 14.0, 19.5), "bottom": (5.5, 14.0, 7.5)}
    assert found.cropped_share() == pytest.approx(400 / 6000)
    assert found.target_share(cropped=True) == pytest.approx(120 / 400)
    assert found.target_share(cropped=False) == pytest.approx(120 / 6000)
    assert found.frequency("top") == pytest.approx(40 / 400)
    (channel,) = found.intensities
    assert (channel.mean, channel.std, channel.minimum, channel.median, channel.maximum) == (75, 25, 50, 75, 100)


def test_measures_voxels_on_the_axes_of_the_patient(boxes: Callable[..., Path]) -> None:
    """Bright above and dark below in all cases, whichever way round the files are, and coarse up-down."""
    root = boxes(["RAS"] * 6, shape=(24, 24, 12), spacing=(1.0, 1.0, 1.0))
    random, codes = np.random.default_rng(0), ["RAS", "LPI", "SLA", "PIR", "AIL", "RSP"]
    for number, code in enumerate(codes):
        file = root / "imagesTr" / f"case_{number:02d}.nii.gz"
        smooth = ndimage.gaussian_filter(random.standard_normal((24, 24, 48)), 3)[..., ::4]
        image = 100 * smooth / np.ptp(smooth) + 100 * np.linspace(0, 1, 12)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code)
        )
        for path, array in ((file, image), (root / "labelsTr" / file.name, (image > 100).astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, np.eye(4)).as_reoriented(turn), path)
    found = measure(root)
    assert [case.orientation for case in found.cases] == codes
    assert all(np.argmax(case.coarseness) == 2 for case in found.cases)
    assert found.slices().axis == 2
    assert found.slices().evidence > 2
    assert found.slices().headers == 1.0
    assert "neighbours along axis 2 (of 12 slices)" in found.spacing_doubt()
    assert found.mirror_likeness[2] < 0.2
    assert min(found.mirror_likeness[:2]) > 0.8


def test_sees_which_axes_have_an_order_of_classes(boxes: Callable[..., Path]) -> None:
    assert measure(boxes(["RAS", "LPI"] * 5)).one_sided_axes() == [2]


def test_a_few_cases_are_no_evidence_of_an_order(boxes: Callable[..., Path]) -> None:
    assert measure(boxes(["RAS"] * 4)).one_sided_axes() == []


def test_is_plain_data(tiny_msd: Callable[..., Path]) -> None:
    root = tiny_msd(channels=("T1", "T2"))
    found = measure(root)
    assert json.loads(json.dumps(found.as_dict()))["cases"][0]["case"] == "tiny_00"
    assert [channel.channel for channel in found.intensities] == ["T1", "T2"]
    assert found == measure(root)


def test_reports_all_cases_that_cannot_be_measured(boxes: Callable[..., Path]) -> None:
    root = boxes(["RAS"] * 3)
    (root / "imagesTr" / "case_00.nii.gz").write_bytes(b"no image")
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), root / "labelsTr" / "case_02.nii.gz")
    with pytest.raises(DataError) as caught:
        measure(root)
    assert [Path(problem.where).name for problem in caught.value.problems] == ["case_00.nii.gz", "case_02.nii.gz"]


def test_hippocampus(test_data: Path) -> None:
    found = measure(test_data / "Task04_Hippocampus")
    assert len(found.cases) == 208
    assert found.cropped_share() > 0.95
    assert found.spacing_doubt() == ""
    assert found.slices().evidence < 1.3
    assert found.one_sided_axes() == [0, 1, 2], "nearly all are of one side, and anterior lies before posterior"
    assert 0.02 < found.frequency("Anterior") < 0.04
    assert np.median(found.shapes(cropped=False), axis=0).tolist() == [35, 50, 36]


def test_brain_in_air(test_data: Path) -> None:
    """The background is a negative constant and the files are LPS."""
    found = measure(test_data / "Dataset015_BraTS2modal")
    assert found.cropped_share() < 0.5
    assert found.targets == ("whole_tumour", "tumour_core", "enhancing_tumour")
    assert {case.orientation for case in found.cases} == {"LPS"}
    assert found.spacing_doubt() == ""
    assert found.slices().evidence < 1.3
    assert found.mirror_likeness[0] > 0.95, "left is like right"
    assert max(found.mirror_likeness[1:]) < 0.95
