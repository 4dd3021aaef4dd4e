from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.data.files.images import Image, case_name, grid_difference, label_values, read_image, write_mask

RANDOM = np.random.default_rng(0)


def turn(degrees: float, first: int, second: int) -> np.ndarray:
    angle, matrix = np.deg2rad(degrees), np.eye(4)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


SHIFT = np.array([[1, 0, 0, -31.7], [0, 1, 0, 12.25], [0, 0, 1, 110.1], [0, 0, 0, 1.0]])
AFFINES = {
    "axis-aligned": SHIFT @ np.diag([1.0, 1.0, 1.0, 1.0]),
    "flipped": SHIFT @ np.diag([-1.0, -1.0, 2.0, 1.0]),
    "permuted": SHIFT @ np.array([[0, 0, 1.5, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]]),
    "anisotropic": SHIFT @ np.diag([0.6, 0.6, 5.0, 1.0]),
    "oblique": SHIFT @ turn(23, 0, 1) @ turn(-11, 1, 2) @ np.diag([0.9, 1.1, 2.5, 1.0]),
}


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 3), (0, 0)])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("name", AFFINES)
def test_a_mask_has_the_grid_and_the_codes_of_its_image(tmp_path: Path, name: str, ending: str, codes: tuple) -> None:
    image = nibabel.Nifti1Image(RANDOM.normal(size=(5, 6, 7)).astype(np.float32), None)
    image.header.set_sform(AFFINES[name], code=codes[0])
    image.header.set_qform(AFFINES[name], code=codes[1])
    image.header["descrip"], image.header["db_name"] = b"Jane Doe", b"Jane Doe"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(image, tmp_path / f"image{ending}")
    mask = RANDOM.integers(0, 3, (5, 6, 7))
    write_mask(tmp_path / f"mask{ending}", mask, like=tmp_path / f"image{ending}", labels=Labels({"zero": 0, "a<b": 1}))

    source, written = nibabel.load(tmp_path / f"image{ending}"), nibabel.load(tmp_path / f"mask{ending}")
    np.testing.assert_array_equal(written.affine, source.affine)
    np.testing.assert_array_equal(written.header.get_sform(), source.header.get_sform())
    np.testing.assert_array_equal(written.header.get_qform(coded=False), source.header.get_qform(coded=False))
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == codes
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    assert written.header.get_intent()[0] == "label"
    assert b"a&lt;b" in written.header.extensions[0].content
    content = b"".join([written.header.binaryblock, *(e.content for e in written.header.extensions)])
    assert b"Doe" not in content, "free text of the input may name the patient"


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_itk_formats_lie_where_nifti_says(tmp_path: Path, name: str, ending: str) -> None:
    nibabel.save(nibabel.Nifti1Image(RANDOM.normal(size=(4, 5, 6)), AFFINES[name]), tmp_path / "image.nii")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "image.nii")), str(tmp_path / f"image{ending}"))
    nifti, other = read_image(tmp_path / "image.nii"), read_image(tmp_path / f"image{ending}")
    np.testing.assert_allclose(other.affine, nifti.affine, atol=1e-5)
    np.testing.assert_array_equal(other.array, nifti.array)
    mask = RANDOM.integers(0, 300, (4, 5, 6))
    for like, path in ((ending, f"mask{ending}"), (".nii", f"mask2{ending}"), (ending, "mask3.nii.gz")):
        write_mask(tmp_path / path, mask, like=tmp_path / f"image{like}")
        written = read_image(tmp_path / path)
        assert written.array.dtype == np.uint16
        np.testing.assert_array_equal(written.array[0], mask)
        np.testing.assert_allclose(written.affine, nifti.affine, atol=1e-5)


def test_channels_come_last_on_disk_and_first_in_memory(tmp_path: Path) -> None:
    values = RANDOM.normal(size=(4, 5, 6, 3)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, AFFINES["oblique"]), tmp_path / "many.nii.gz")
    for channel in range(3):
        one = nibabel.Nifti1Image(values[..., channel], AFFINES["oblique"])
        nibabel.save(one, tmp_path / f"case_{channel:04d}.nii.gz")
    many = read_image(tmp_path / "many.nii.gz")
    single = read_image([tmp_path / f"case_{channel:04d}.nii.gz" for channel in range(3)])
    for image in (many, single):
        np.testing.assert_array_equal(image.array, np.moveaxis(values, -1, 0))
        assert image.spacing_mm == pytest.approx((0.9, 1.1, 2.5))
    write_mask(tmp_path / "mask.nii.gz", np.ones((4, 5, 6), int), like=tmp_path / "many.nii.gz")
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == (4, 5, 6)
    with pytest.raises(DataError, match="3 channels"):
        read_image([tmp_path / "many.nii.gz"])


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_two_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nibabel.save(nibabel.Nifti1Image(RANDOM.normal(size=shape), AFFINES["anisotropic"]), tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    assert image.array.shape == (1, 4, 5)
    assert image.spacing_mm == pytest.approx((0.6, 0.6))
    write_mask(tmp_path / "mask.nii.gz", np.ones((4, 5), np.uint8), like=tmp_path / "a.nii.gz")
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == shape


def test_scaled_integers_are_read_as_what_they_mean(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "a.nii.gz")
    expected = nibabel.load(tmp_path / "a.nii.gz").get_fdata()
    read = read_image(tmp_path / "a.nii.gz").array
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read[0], expected)


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def test_labels_are_whole_numbers_of_any_type(tmp_path: Path) -> None:
    whole = RANDOM.integers(0, 5, (3, 4, 5))
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        values = label_values(read_image(save(tmp_path / "a.nii.gz", whole.astype(dtype))))
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values[0], whole)
    for wrong, message in ((0.5, "non-integer"), (np.nan, "non-integer"), (-1, "-1"), (256, "256")):
        values = whole.astype(np.float32)
        values[1, 1, 1] = wrong
        with pytest.raises(DataError, match=message):
            label_values(read_image(save(tmp_path / "a.nii.gz", values)))


def test_differences_of_grids_have_names(tmp_path: Path) -> None:
    base = read_image(save(tmp_path / "a.nii.gz", np.zeros((8, 9, 10), np.uint8), AFFINES["oblique"]))

    def other(affine: np.ndarray, shape: tuple[int, ...] = (8, 9, 10)) -> str | None:
        return grid_difference(base, read_image(save(tmp_path / "b.nii.gz", np.zeros(shape, np.uint8), affine)))

    oblique = AFFINES["oblique"]
    assert other(oblique + RANDOM.normal(scale=1e-5, size=(4, 4)) * [[1], [1], [1], [0]]) is None
    assert "shape" in str(other(oblique, (8, 9, 11)))
    assert "spacing" in str(other(oblique @ np.diag([1, 1, 1.2, 1])))
    assert "direction" in str(other(oblique @ np.diag([-1, 1, 1, 1])))
    moved = oblique.copy()
    moved[0, 3] += 1
    assert "origin" in str(other(moved))


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "not an image", "no affine", "colours"])
def test_unreadable_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.nii.gz"
    if damage == "colours":
        colours = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), path)
    elif damage == "no affine":
        image = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.uint8), None)
        image.header.set_sform(np.zeros((4, 4)), code=1)
        nibabel.save(image, path)
    elif damage != "missing":
        save(path, RANDOM.normal(size=(9, 9, 9)))
        content = path.read_bytes()
        path.write_bytes({"truncated": content[: len(content) // 2], "empty": b""}.get(damage, b"hello"))
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert caught.value.problems[0].where == str(path)
    assert len(str(caught.value)) < 600


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = save(tmp_path / "image.nii.gz", np.zeros((3, 3, 3), np.uint8))
    mask = tmp_path / "mask.nii.gz"
    write_mask(mask, np.ones((3, 3, 3), int), like=image)
    before = mask.read_bytes()

    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        write_mask(mask, np.zeros((3, 3, 3), int), like=image)
    assert mask.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.nii.gz", "mask.nii.gz"]
    with pytest.raises(ValueError, match="shape"):
        write_mask(mask, np.zeros((3, 3, 4), int), like=image)


def test_case_names() -> None:
    assert [case_name(f"/a/b.c{end}") for end in (".nii.gz", ".nii", ".nrrd", ".mha")] == ["b.c"] * 4


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5)])
@pytest.mark.parametrize("of_file", [False, True])
def test_what_is_no_picture_is_not_written_as_one(shape: tuple[int, ...], of_file: bool, tmp_path: Path) -> None:
    file = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), file)
    mask, like = np.zeros(shape, np.uint8), file if of_file else Image(np.zeros((1, *shape)), np.eye(4), Path("array"))
    if of_file or len(shape) == 3:
        with pytest.raises(DataError, match=r"mask\.png: is a picture, but [\s\S]*give \.nii\.gz"):
            write_mask(tmp_path / "mask.png", mask, like=like)
    for name in ("mask.jpg", "mask.mhd", "mask", "mask.txt"):
        with pytest.raises(DataError, match=r"no mask is written\s.*of a picture \.png"):
            write_mask(tmp_path / name, mask, like=like)
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_an_image_without_a_voxel_is_none(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Image(np.zeros((1, *shape), np.uint8), np.eye(4), tmp_path / "a.tif")
    monkeypatch.setattr("medseg.data.files.images.read_picture", lambda *_, **__: empty)
    (tmp_path / "a.tif").touch()
    with pytest.raises(DataError, match="in which nothing is"):
        read_image(tmp_path / "a.tif")
