"""DICOM series as images, held against SimpleITK's own reading of them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medseg.core.errors import DataError
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import list_inputs
from medseg.data.files.dicom import find_series, is_series, modality
from medseg.data.files.images import read_image, write_mask
from medseg.data.training.cache import CachedDataset
from medseg.data.training.transforms import preprocessing
from tests.dicom import SECRET, write_series

VOLUME = np.random.default_rng(0).integers(-1000, 1000, (6, 10, 12))


def as_itk_reads(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def same_as_itk(folder: Path, tmp_path: Path) -> None:
    """Voxels and affine of a series are those of the NIfTI file that ITK makes of it."""
    SimpleITK.WriteImage(as_itk_reads(folder), str(tmp_path / "itk.nii.gz"))
    image, expected = read_image(folder), nib.load(tmp_path / "itk.nii.gz")
    assert np.array_equal(image.array[0], np.asarray(expected.dataobj))
    assert np.allclose(image.affine, expected.affine, atol=1e-3)


def test_a_series_is_read_as_itk_reads_it(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "1.2.840", VOLUME)
    assert is_series(folder)
    assert modality(folder) == "CT"
    same_as_itk(folder, tmp_path)
    assert np.array_equal(read_image(folder).array[0], VOLUME.T)


@pytest.mark.parametrize("series", ["ct_17_slices", "ct_3_slices"])
def test_real_series_are_read_as_itk_reads_them(test_data: Path, tmp_path: Path, series: str) -> None:
    same_as_itk(test_data / "dicom" / series, tmp_path)


def test_masks_lie_on_the_grid_of_the_series_and_hold_no_text_of_it(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", VOLUME)
    write_mask(tmp_path / "mask.nii.gz", (VOLUME.T > 0).astype(np.uint8), like=folder)
    written = read_image(tmp_path / "mask.nii.gz")
    assert np.allclose(written.affine, read_image(folder).affine, atol=1e-4)
    assert np.array_equal(written.array[0], VOLUME.T > 0)
    assert any(SECRET.encode() in file.read_bytes() for file in folder.iterdir())
    nifti = nib.load(tmp_path / "mask.nii.gz")
    assert SECRET.encode() not in nifti.to_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"places": [0, 3, 6, 12, 15, 18]}, "a slice is missing.*6 mm between"),
        ({"places": [0, 0, 3, 3, 6, 6]}, "two slices at one place"),
    ],
)
def test_slices_that_form_no_volume_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_image(write_series(tmp_path / "ct", VOLUME, **options))


def test_several_series_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "both", VOLUME)
    write_series(tmp_path / "both", VOLUME[:2], series=2, modality="MR")
    with pytest.raises(DataError, match=r"2 series: CT of 6") as caught:
        read_image(tmp_path / "both")
    assert "MR of 2" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_segmentation_objects_are_no_scans(test_data: Path) -> None:
    with pytest.raises(DataError, match="2 series: SEG of 1"):
        read_image(test_data / "dicom" / "seg_of_ct_3_slices")


def test_a_damaged_slice_is_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", VOLUME)
    damaged = sorted(folder.iterdir())[2]
    damaged.write_bytes(damaged.read_bytes()[:140])
    with pytest.raises(DataError, match=damaged.name):
        read_image(folder)


def test_inputs_are_the_series_in_and_below_a_folder(tmp_path: Path) -> None:
    one = write_series(tmp_path / "export" / "anna" / "thorax", VOLUME)
    two = write_series(tmp_path / "export" / "ben", VOLUME)
    assert find_series(tmp_path / "export") == ([one, two], [])
    assert [case.name for case in list_inputs(tmp_path / "export", 1)] == ["anna_thorax", "ben"]
    assert list_inputs(two, 1) == [Case("ben", (str(two),))]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="DICOM"):
        list_inputs(tmp_path / "none", 1)


def test_a_changed_slice_makes_a_new_cache_entry(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", VOLUME)
    cases = [{"case": "ct", "image": str(folder)}]
    first = CachedDataset(cases, preprocessing(keys=["image"], normalization="none"), tmp_path / "cache")
    before = first[0]["image"].max()
    write_series(folder, VOLUME + 500)
    again = CachedDataset(cases, preprocessing(keys=["image"], normalization="none"), tmp_path / "cache")
    assert again[0]["image"].max() == before + 500
