"""DICOM series as images, held against SimpleITK's own reading of them."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medseg.bundle.compile import compile_evaluation, compile_inference, compile_training
from medseg.bundle.facts import config_dataset, describe_data
from medseg.bundle.language import parsed
from medseg.core.errors import ConfigError, DataError
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import list_inputs
from medseg.data.files.dicom import find_series, is_series, modality
from medseg.data.files.images import Image, read_image, write_mask
from medseg.data.files.reading import Choice, ReadingRules, choice, reading
from medseg.data.training.cache import CachedDataset
from medseg.data.training.transforms import preprocessing
from tests.dicom import SECRET, write_series
from tests.dicom_files import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    as_pydicom_writes,
    image_tags,
    mosaic_tags,
    write,
    write_enhanced,
    write_slices,
)
from tests.tiny import tiny_config

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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_any_series_lies_where_itk_says(tmp_path: Path, seed: int) -> None:
    """Planes turned anyhow, spacings, slopes, signs, syntaxes, orders of files; as an enhanced file too."""
    random = np.random.default_rng(seed)
    plane, _ = np.linalg.qr(random.normal(size=(3, 3)))
    rows = np.round(plane[:, :2].T, 6).ravel()
    spacing, gap = np.round(random.uniform(0.3, 4, 2), 3), round(float(random.uniform(0.5, 6)), 3)
    signed = bool(random.integers(2))
    shape = random.integers(2, 9, 3)
    volume = random.integers(-900 if signed else 0, 900, shape).astype(np.int16 if signed else np.uint16)
    step = np.cross(rows[:3], rows[3:]) * gap * random.choice([-1, 1])
    positions = random.uniform(-200, 200, 3) + np.arange(len(volume))[:, None] * step
    slopes = [(float(random.choice([1, 2, 0.25, 0.01])), float(random.choice([0, -1024, 0.5]))) for _ in volume]
    syntax = str(random.choice([IMPLICIT, EXPLICIT, BIG, DEFLATED]))
    begins = "preamble" if syntax in (BIG, DEFLATED) else str(random.choice(["preamble", "meta", "data"]))
    folder, options = tmp_path / f"{seed}", {"plane": rows, "spacing": spacing}
    for file, number in enumerate(random.permutation(len(volume))):
        slope, intercept = slopes[number]
        more = {0x00281052: ("DS", intercept), 0x00281053: ("DS", slope)}
        chosen = {"position": positions[number], "number": file + 1, "syntax": syntax, "more": more, **options}
        tags = image_tags(volume[number], **chosen)
        write(folder / f"{file}.dcm", tags, syntax=syntax, begins=begins)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    image = read_image(folder)
    order = np.argsort(positions @ np.cross(rows[:3], rows[3:]))
    expected = np.stack([volume[k] * slopes[k][0] + slopes[k][1] for k in order]).astype(np.float32).T
    assert np.array_equal(image.array[0], expected)
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    same_place(image, reader.Execute())
    one = write_enhanced(tmp_path / f"{seed}e" / "0.dcm", volume, positions, slopes=slopes, **options)
    for name in (one, as_pydicom_writes(one, bool(random.integers(2)))):
        enhanced = read_image(name.parent)
        assert np.array_equal(enhanced.array, image.array)
        assert np.allclose(enhanced.affine, image.affine, atol=1e-5)


def same_place(image: Image, itk: SimpleITK.Image) -> None:
    """The corners of both lie within a hundredth of a millimetre."""
    for corner in np.ndindex(2, 2, 2):
        index = [place * (size - 1) for place, size in zip(corner, image.shape, strict=True)]
        place = np.array(itk.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        assert np.allclose(image.affine[:3] @ [*index, 1], place, atol=0.01)


def test_a_zip_writes_nothing_elsewhere(tmp_path: Path) -> None:
    name = "../" * 12 + str(tmp_path / "escaped.dcm").lstrip("/")
    folder = write_slices(tmp_path / "in" / "a", VOLUME[:2].astype(np.int16))
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        for where, file in zip((name, "b" * 300), sorted(folder.iterdir()), strict=True):
            archive.writestr(zipfile.ZipInfo(where), file.read_bytes())
        archive.writestr(zipfile.ZipInfo(name), sorted(folder.iterdir())[0].read_text("latin-1")[:50])
    assert np.array_equal(read_image(tmp_path / "in" / "a.zip").array[0], VOLUME[:2].T)
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def test_a_rule_of_the_config_holds_for_its_data_in_its_bundles_and_in_the_cache(
    tiny_msd: Callable[..., Path], tmp_path: Path
) -> None:
    plain = tiny_config(tiny_msd(cases=2))
    ruled = tiny_config(Path(str(plain.data.root)), data__dicom={"modality": "MR", "description": "$T2@ #.*%"})
    facts = describe_data(plain)
    write_series(tmp_path / "study" / "ct", VOLUME)
    write_series(tmp_path / "study" / "mr", VOLUME[:3], series=2, modality="MR")
    cases = [{"case": "a", "image": str(tmp_path / "study")}]
    with reading(ReadingRules()):
        for compiler in (compile_training, compile_evaluation, compile_inference):
            for config, chosen in ((ruled, Choice("MR", "$T2@ #.*%")), (plain, Choice())):
                first = compiler(config, facts=facts, bundle_root=".")["initialize"][0]
                parsed({"first": first}).get_parsed_content("first")
                assert choice() == chosen
    config_dataset(ruled)
    assert not choice()
    for kind, slices in (("MR", 3), ("CT", 6)):
        with reading(ReadingRules(modality=kind)):
            cached = CachedDataset(cases, preprocessing(keys=["image"], normalization="none"), tmp_path / "cache")
            assert cached[0]["image"].shape[-1] == slices


def test_a_pattern_that_is_none_is_refused(tiny_msd: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match=r"description: 'T2\(' is no regular expression"):
        tiny_config(tiny_msd(cases=2), data__dicom={"description": "T2("})
    monkeypatch.setenv("MEDSEG_DICOM_DESCRIPTION", "T2(")
    with pytest.raises(ConfigError, match=r"MEDSEG_DICOM_DESCRIPTION.*no regular expression"):
        choice()


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_dcm2niix_makes_the_same_volumes(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 1000, (7, 20, 24)).astype(np.uint16)
    tags = {"position": (-10, -20, 5), "spacing": (2, 1.5)}
    places = [(0, 0, 2 * number) for number in range(7)]
    for name, folder in {
        "series": write_slices(tmp_path / "series", volume, spacing=(0.5, 0.75)),
        "enhanced": write_enhanced(tmp_path / "enhanced" / "0.dcm", volume, places).parent,
        "mosaic": write(tmp_path / "mosaic" / "0.dcm", mosaic_tags(volume, **tags)).parent,
        "downwards": write(tmp_path / "downwards" / "0.dcm", mosaic_tags(volume, normal=(0, 0, -1), **tags)).parent,
    }.items():
        subprocess.run(["dcm2niix", "-o", str(tmp_path), "-f", name, str(folder)], check=True, capture_output=True)
        image, made = read_image(folder), nib.load(tmp_path / f"{name}.nii")
        turn = nib.orientations.ornt_transform(nib.io_orientation(made.affine), nib.io_orientation(image.affine))
        made = made.as_reoriented(turn)
        assert np.array_equal(np.asarray(made.dataobj), image.array[0]), name
        assert np.allclose(made.affine, image.affine, atol=1e-4), name
