"""Images, labels and predictions stay on their voxels, wherever those are and however a file says it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg.data.files.images import grid_difference, label_values, read_image, write_mask
from tests.dicom import write_series

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # of ITK's LPS
UNITS = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001, 2 + 8: 1.0, 3 + 16: 0.001}  # xyzt_units -> millimetres
TYPES = ["u1", "i1", "<i2", ">i2", "<u2", ">i4", "<i4", "<i8", ">f4", "<f8"]

settings.register_profile("geometry", max_examples=25, deadline=None, derandomize=True)
drawn = settings.get_profile("geometry")


@dataclass(frozen=True)
class Drawn:
    """A volume somewhere: its voxels, their affine (RAS+, millimetres), and how a file says it."""

    voxels: np.ndarray
    affine: np.ndarray
    unit: int
    codes: tuple[int, int]
    slope: float
    two: bool


@st.composite
def volumes(draw: st.DrawFn) -> Drawn:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(*[st.integers(2, 9)] * 3))
    kind = np.dtype(draw(st.sampled_from(TYPES)))
    turn = Rotation.from_rotvec(random.normal(size=3) * draw(st.sampled_from([0, 0.02, 1])))
    axes = turn.as_matrix() @ (np.eye(3)[random.permutation(3)] * draw(st.tuples(*[st.sampled_from([-1, 1])] * 3)))
    axes = axes @ (np.eye(3) + draw(st.sampled_from([0, 1e-5])) * random.uniform(-1, 1, (3, 3)))  # a shear of rounding
    lengths = draw(st.tuples(*[st.floats(0.2, 6)] * 3))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * lengths, random.uniform(-200, 200, 3)
    return Drawn(
        random.integers(0, 100, shape).astype(kind),
        affine,
        draw(st.sampled_from(sorted(UNITS))),
        draw(st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 1), (2, 0), (4, 1), (4, 0)])),
        draw(st.sampled_from([1.0, 0.5, 2.0])),
        draw(st.booleans()),
    )


def write(path: Path, drawn: Drawn, voxels: np.ndarray, slope: float = 1.0) -> Path:
    kind: Any = nibabel.Nifti2Header if drawn.two else nibabel.Nifti1Header
    header = kind(endianness=">" if voxels.dtype.byteorder == ">" else "<")
    stored = drawn.affine.copy()
    stored[:3] /= UNITS[drawn.unit]
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    header.set_qform(stored, drawn.codes[1], strip_shears=True)
    header.set_sform(stored, drawn.codes[0])
    header["xyzt_units"], header["scl_slope"] = drawn.unit, slope
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    gap = int(header.single_vox_offset) - len(header.binaryblock)
    path.write_bytes(header.binaryblock + bytes(gap) + voxels.tobytes(order="F"))
    return path


def by_itk(image: SimpleITK.Image) -> tuple[np.ndarray, np.ndarray]:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, RAS @ affine


def by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """nibabel leaves the unit to whoever asks."""
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3] *= UNITS[int(image.header["xyzt_units"])]
    return np.asarray(image.dataobj), affine


def same(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3 * np.abs(other[:3, :3]).max())


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@given(volumes())
@drawn
def test_image_label_and_prediction_lie_on_one_another(ending: str, case: Drawn) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = read_image(write(folder / "image.nii", case, case.voxels, case.slope))
        expected, affine = by_nibabel(folder / "image.nii")
        assert np.array_equal(image.array[0], expected.astype(image.array.dtype))
        same(image.affine, affine)
        same(image.affine, case.affine)
        assert image.doubts == ()
        if not case.two:  # SimpleITK does not read NIfTI-2
            expected, affine = by_itk(SimpleITK.ReadImage(str(folder / "image.nii")))
            assert np.allclose(image.array[0], expected)
            same(image.affine, affine)

        values = (case.voxels % 4).astype(np.uint8)
        label = read_image(write(folder / "label.nii", case, values.astype(case.voxels.dtype)), channel_axis=False)
        assert np.array_equal(label_values(label)[0], values)
        assert grid_difference(image, label) is None

        mask = folder / f"mask{ending}"
        write_mask(mask, values, like=folder / "image.nii")
        written = read_image(mask)
        assert np.array_equal(written.array[0], values)
        assert grid_difference(image, written) is None
        if "nii" in ending:
            same(by_nibabel(mask)[1], image.affine)
        if not (case.two and "nii" in ending):
            voxels, affine = by_itk(SimpleITK.ReadImage(str(mask)))
            assert np.array_equal(voxels, values)
            same(affine, image.affine)


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.floats(0.3, 5)] * 3))
@settings(drawn, max_examples=10)
def test_a_series_its_conversion_and_its_mask_lie_on_one_another(seed: int, spacing: tuple[float, ...]) -> None:
    random = np.random.default_rng(seed)
    volume = random.integers(-1000, 1000, random.integers(2, 6, 3))
    axes = Rotation.random(random_state=seed).as_matrix()[:2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lengths = [round(length, 3) for length in spacing]
        series = write_series(folder / "scan", volume, spacing=lengths, origin=random.uniform(-99, 99, 3), axes=axes)
        image = read_image(series)
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
        converted = reader.Execute()
        voxels, affine = by_itk(converted)
        assert np.array_equal(image.array[0], voxels)
        same(image.affine, affine)
        SimpleITK.WriteImage(converted, str(folder / "scan.nii.gz"))
        assert grid_difference(image, read_image(folder / "scan.nii.gz")) is None
        write_mask(folder / "mask.nii.gz", (voxels > 0).astype(np.uint8), like=series)
        mask = read_image(folder / "mask.nii.gz")
        assert np.array_equal(mask.array[0], voxels > 0)
        assert grid_difference(image, mask) is None
        same(by_nibabel(folder / "mask.nii.gz")[1], by_itk(SimpleITK.ReadImage(str(folder / "mask.nii.gz")))[1])


@given(st.integers(0, 2**32 - 1), st.floats(-6, -0.5), st.sampled_from([(2, 1), (3, 2), (4, 1), (1, 1)]))
@settings(drawn, max_examples=60)
def test_forms_a_small_turn_apart_are_read_as_by_itk(seed: int, exponent: float, codes: tuple[int, int]) -> None:
    random = np.random.default_rng(seed)
    lengths = random.uniform(0.3, 5, 3) if seed % 2 else random.choice([0.5, 1, 1, 3], 3)
    axes = Rotation.from_rotvec(random.normal(size=3)).as_matrix()[:, random.permutation(3)]
    across = random.normal(size=3) if seed % 3 else np.eye(3)[random.integers(3)]
    turn = Rotation.from_rotvec(across / np.linalg.norm(across) * 10**exponent).as_matrix()
    sform, qform = np.eye(4), np.eye(4)
    sform[:3, :3], qform[:3, :3] = axes * lengths, turn @ axes * lengths
    sform[:3, 3] = qform[:3, 3] = random.normal(0, 50, 3)
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.set_qform(qform, codes[1])
    image.set_sform(sform, codes[0])
    image.header["pixdim"][1:4] = lengths
    with tempfile.TemporaryDirectory() as name:
        image.to_filename(Path(name) / "a.nii")
        read = read_image(Path(name) / "a.nii").affine
        expected = by_itk(SimpleITK.ReadImage(str(Path(name) / "a.nii")))[1]
    np.testing.assert_allclose(read, expected, atol=1e-3)
