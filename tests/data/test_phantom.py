"""The phantom is a valid MSD data set, says that it is synthetic, and is neither constant nor trivial."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import DataError
from medseg.data.phantom import CLASSES, MODALITIES, NON_ENHANCING_EVERY, write_phantom


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, cases=NON_ENHANCING_EVERY, unlabelled=1, shape=(32, 28, 24), seed=3)
    return folder


def _label(folder: Path, number: int) -> np.ndarray:
    return np.asarray(nib.load(folder / "labelsTr" / f"phantom_{number:03d}.nii.gz").dataobj)


def test_layout_is_msd_and_complete(cohort: Path) -> None:
    content = json.loads((cohort / "dataset.json").read_text())
    assert content["modality"] == {str(i): name for i, name in enumerate(MODALITIES)}
    assert content["labels"] == {"0": "background", "1": "oedema", "2": "non_enhancing_core", "3": "enhancing_tumour"}
    assert (content["numTraining"], content["numTest"]) == (NON_ENHANCING_EVERY, 1)
    for entry in content["training"]:
        image, label = nib.load(cohort / entry["image"]), nib.load(cohort / entry["label"])
        assert image.shape == (32, 28, 24, 4)
        assert label.shape == (32, 28, 24)
        assert np.array_equal(image.affine, label.affine)
        assert label.get_data_dtype() == np.uint8
    assert [(cohort / entry).exists() for entry in content["test"]] == [True]


def test_says_everywhere_that_it_is_synthetic(cohort: Path) -> None:
    content = json.loads((cohort / "dataset.json").read_text())
    assert "Synthetic" in content["name"]
    assert "SYNTHETIC" in content["description"]
    assert content["synthetic"] is True
    for path in cohort.rglob("*.nii.gz"):
        assert b"SYNTHETIC" in bytes(nib.load(path).header["descrip"])


def test_tumours_are_nested_in_one_piece_and_not_all_enhance(cohort: Path) -> None:
    enhancing = []
    for number in range(NON_ENHANCING_EVERY):
        label = _label(cohort, number)
        assert set(np.unique(label)) <= set(CLASSES.values())
        assert ndimage.label(label > 0)[1] == 1
        assert (label == 1).any()
        assert (label >= 2).any()
        # Around a core lies tumour, mostly: it is inside, not beside.
        shell = ndimage.binary_dilation(label >= 2) & (label < 2)
        assert (label[shell] == 1).mean() > 0.5
        enhancing.append(bool((label == 3).any()))
    assert enhancing == [True] * (NON_ENHANCING_EVERY - 1) + [False]


def test_cases_differ_in_spacing_orientation_and_contrast(cohort: Path) -> None:
    images = [nib.load(path) for path in sorted((cohort / "imagesTr").iterdir())]
    assert len({image.header.get_zooms()[:3] for image in images}) == len(images)
    assert len({nib.aff2axcodes(image.affine) for image in images}) > 1
    means = np.array([np.asarray(image.dataobj).mean((0, 1, 2)) for image in images])
    assert (means.std(0) / means.mean(0) > 0.2).all()


def test_no_single_threshold_solves_it(cohort: Path) -> None:
    dice = []
    for number in range(NON_ENHANCING_EVERY):
        flair = np.asarray(nib.load(cohort / "imagesTr" / f"phantom_{number:03d}.nii.gz").dataobj)[..., 0].astype(float)
        tumour = _label(cohort, number) > 0
        flair = (flair - flair.mean()) / flair.std()
        dice.append(
            [2 * ((flair > t) & tumour).sum() / ((flair > t).sum() + tumour.sum()) for t in np.arange(0, 4, 0.1)]
        )
    best = np.mean(dice, 0).max()
    assert 0.2 < best < 0.75  # it carries information, but not enough


def test_depends_on_seed_and_number_only(cohort: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path / "again", cases=2, unlabelled=0, shape=(32, 28, 24), seed=3)
    write_phantom(tmp_path / "other", cases=1, unlabelled=0, shape=(32, 28, 24), seed=4)
    first = (cohort / "imagesTr" / "phantom_001.nii.gz").read_bytes()
    assert (tmp_path / "again" / "imagesTr" / "phantom_001.nii.gz").read_bytes() == first
    assert not np.array_equal(_label(tmp_path / "other", 0), _label(cohort, 0))


def test_never_overwrites_another_data_set(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"name": "Somebody\'s cohort"}')
    with pytest.raises(DataError, match="another data set"):
        write_phantom(tmp_path, cases=1, unlabelled=0, shape=(16, 16, 16))
    assert not (tmp_path / "imagesTr").exists()
