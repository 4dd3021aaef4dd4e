"""Where the voxels of a NIfTI file are: as ITK reads it, and where the header contradicts itself it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK

from medseg.data.files.images import read_image, write_mask
from tests.corpus.situation import Reading, Subjects, read, refused, warned, without

SHAPE = (12, 10, 8)
VOXELS = np.random.default_rng(5).integers(0, 400, SHAPE).astype(np.int16)
SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # it warns of what is tried here
MASK = (VOXELS > 200).astype(np.uint8)
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.1, 0.3) @ np.diag([-0.8, 0.8, 2.5]), [30, -20, 11]
)


def write(
    path: Path,
    voxels: np.ndarray = VOXELS,
    *,
    sform: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    codes: tuple[int, int] = (0, 0),
    **fields: Any,
) -> Path:
    """A file with these forms, their codes, and further header fields, byte by byte: nothing is made consistent."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    if qform is not None:
        header.set_qform(qform, 1)
    if sform is not None:
        header.set_sform(sform, 1)
        if qform is None:
            header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
    header["sform_code"], header["qform_code"] = codes
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    for name, value in fields.items():
        header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.binaryblock + bytes(4) + voxels.tobytes(order="F"))
    return path


def pixdim(*lengths: float) -> list[float]:
    return [1, *lengths, 0, 0, 0, 0]


def by_itk(path: Path) -> Reading:
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Reading(path, SimpleITK.GetArrayFromImage(image).T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def labelled(folder: Path, like: Path) -> Path:
    """A data set of two such images, whose labels an ITK tool wrote on them."""
    image = SimpleITK.ReadImage(str(like))
    label = SimpleITK.GetImageFromArray(MASK.T)
    label.CopyInformation(image)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number, shift in enumerate((0, 1)):
        content = bytearray(like.read_bytes())
        content[-1] ^= shift  # not the same image twice
        (folder / f"images/a{number}.nii").write_bytes(content)
        SimpleITK.WriteImage(label, str(folder / f"labels/a{number}.nii.gz"))
    return folder


def mask_lies_on(path: Path) -> None:
    """The mask that is written on an image is where that is, for ITK, for nibabel and for medseg."""
    out = path.with_name("mask.nii.gz")
    write_mask(out, MASK, like=path)
    np.testing.assert_allclose(by_itk(out).affine, by_itk(path).affine, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(read_image(out).affine, read_image(path).affine, rtol=1e-6, atol=1e-5)
    assert np.array_equal(nibabel.load(out).get_fdata(), MASK)


def both(path: Path, folder: Path) -> Subjects:
    yield by_itk(path)
    yield labelled(folder / "set", path)
    yield lambda: mask_lies_on(path)


@read(__name__)
def micrometres(folder: Path) -> Subjects:
    affine = OBLIQUE * [[1000], [1000], [1000], [1]]
    yield from both(write(folder / "a.nii", sform=affine, codes=(1, 0), xyzt_units=3), folder)


@read(__name__)
def metres_and_seconds(folder: Path) -> Subjects:
    affine = OBLIQUE * [[0.001], [0.001], [0.001], [1]]
    yield from both(write(folder / "a.nii", qform=affine, codes=(0, 1), xyzt_units=1 + 8), folder)


@read(__name__)
def no_unit_but_of_time(folder: Path) -> Subjects:
    yield from both(write(folder / "a.nii", sform=OBLIQUE, codes=(2, 0), xyzt_units=16), folder)


@read(__name__)
def both_forms_alike(folder: Path) -> Subjects:
    yield from both(write(folder / "a.nii", sform=OBLIQUE, qform=OBLIQUE, codes=(2, 1)), folder)


@read(__name__)
def template_with_its_sform_alone(folder: Path) -> Subjects:
    yield from both(
        write(folder / "a.nii", sform=OBLIQUE, qform=np.eye(4), codes=(4, 0), pixdim=pixdim(0.8, 0.8, 2.5)), folder
    )


@read(__name__)
def qform_alone_turned_over(folder: Path) -> Subjects:
    yield from both(write(folder / "a.nii", qform=OBLIQUE @ np.diag([1, 1, -1, 1]), codes=(0, 1)), folder)


@read(__name__)
def quaternion_too_long_by_rounding(folder: Path) -> Subjects:
    path = write(folder / "a.nii", qform=np.diag([-1, 1, -1, 1.0]), codes=(0, 1), quatern_c=1.0000005)
    yield from both(path, folder)


@warned(__name__, "quaternion of its qform is 1.2 long")
def quaternion_much_too_long(folder: Path) -> Subjects:
    path = write(folder / "a.nii", qform=np.diag([-1, 1, -1, 1.0]), codes=(0, 1), quatern_c=1.2)
    yield from both(path, folder)


@warned(__name__, "lengths are read from pixdim")
def sform_of_unit_vectors(folder: Path) -> Subjects:
    path = write(folder / "a.nii", sform=np.eye(4), codes=(1, 0), pixdim=pixdim(0.866, 0.866, 0.866))
    yield from both(path, folder)


@warned(__name__, "sform (code 2) and qform (code 1) place it up to 11.6 mm apart: read by the qform")
def registered_sform_beside_the_scanner_s_qform(folder: Path) -> Subjects:
    moved = np.eye(4)
    moved[:3, 3] = 10, -5, 3
    yield from both(write(folder / "a.nii", sform=moved, qform=np.eye(4), codes=(2, 1)), folder)


@warned(__name__, "read by the sform")
def sform_of_the_scanner_wins(folder: Path) -> Subjects:
    yield from both(write(folder / "a.nii", sform=OBLIQUE, qform=np.diag([0.8, 0.8, 2.5, 1]), codes=(1, 2)), folder)


@warned(__name__, "its sform is sheared or flat: read by the qform")
def sheared_sform_beside_a_qform(folder: Path) -> Subjects:
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    yield from both(write(folder / "a.nii", sform=sheared, qform=OBLIQUE, codes=(2, 1)), folder)


@refused(__name__, "a0.nii", "sheared", "8.4 degrees", "reslice")
def real_shear(folder: Path) -> Subjects:
    sheared = np.eye(4)
    sheared[0, 1] = 0.15
    path = write(folder / "set/images/a0.nii", sform=sheared, codes=(2, 0))
    write(folder / "set/labels/a0.nii", MASK, sform=sheared, codes=(2, 0))
    yield lambda: read_image(path)
    yield folder / "set"


@read(__name__)
def shear_of_rounding(folder: Path) -> Subjects:
    sheared = np.diag([0.8, 0.8, 3, 1])
    sheared[0, 1] = 5e-5
    yield from both(write(folder / "a.nii", sform=sheared, codes=(2, 0)), folder)


@warned(__name__, "off a right angle: ITK does not read it")
def shear_that_only_itk_minds(folder: Path) -> Subjects:
    sheared = np.diag([0.8, 0.8, 3, 1])
    sheared[0, 1] = 4e-4
    path = write(folder / "set/images/a0.nii", sform=sheared, codes=(2, 0))
    write(folder / "set/labels/a0.nii", MASK, sform=sheared, codes=(2, 0))
    yield Reading(path, VOXELS, nibabel.load(path).affine)
    yield folder / "set"


@refused(__name__, "one origin, but opposite or exchanged axes", "set_qform")
def forms_that_are_mirror_images(folder: Path) -> Subjects:
    path = write(folder / "a.nii", sform=np.diag([-1, 1, 1, 1]), qform=np.eye(4), codes=(2, 1))
    yield lambda: read_image(path)


def turned(angle: float, axis: int = 2) -> np.ndarray:
    """The oblique grid, turned about its origin, in radians."""
    turn = nibabel.eulerangles.euler2mat(*np.eye(3)[axis] * angle)
    return nibabel.affines.from_matvec(turn @ OBLIQUE[:3, :3], OBLIQUE[:3, 3])


@read(__name__)
def forms_that_nearly_agree(folder: Path) -> Subjects:
    """As two tools write one turn, with other numbers of digits."""
    for number, angle in enumerate((1e-6, 1e-5, 1e-4, 3e-4, 1e-3)):
        for axis in range(3):
            for code in (2, 4):
                name = f"{number}{axis}{code}.nii"
                yield by_itk(write(folder / name, sform=OBLIQUE, qform=turned(angle, axis), codes=(code, 1)))


@warned(__name__, "read by the qform")
def forms_that_are_a_small_turn_apart(folder: Path) -> Subjects:
    for name, angle in (("little", 5e-3), ("more", 9e-3)):
        yield from both(write(folder / f"{name}.nii", sform=OBLIQUE, qform=turned(angle), codes=(2, 1)), folder / name)


@refused(__name__, "one origin, but opposite or exchanged axes")
def forms_that_are_nearly_mirror_images_with_long_voxels(folder: Path) -> Subjects:
    turn = nibabel.eulerangles.euler2mat(0, 1e-4, 0)
    sform, qform = np.eye(4), np.eye(4)
    sform[:3, :3], qform[:3, :3] = np.diag([1.0, 5, 3]), turn @ np.diag([-1.0, -5, 3])
    path = write(folder / "a.nii", sform=sform, qform=qform, codes=(3, 1))
    yield lambda: read_image(path)


@refused(__name__, "below 0", "pixdim")
def negative_pixdim(folder: Path) -> Subjects:
    path = write(folder / "a.nii", sform=OBLIQUE, codes=(1, 0), pixdim=pixdim(-0.8, 0.8, 2.5))
    yield lambda: read_image(path)


@refused(__name__, "without a usable affine")
def flat_sform(folder: Path) -> Subjects:
    path = write(folder / "a.nii", sform=np.eye(4), codes=(1, 0), srow_z=0)
    yield lambda: read_image(path)


@warned(__name__, "1 is taken where it is 0", "lengths are read from pixdim")
def pixdim_of_zero(folder: Path) -> Subjects:
    yield from both(write(folder / "a.nii", sform=OBLIQUE, codes=(1, 0), pixdim=pixdim(0.8, 0.8, 0)), folder)


@warned(__name__, "sform and qform codes are 0")
def no_form_at_all(folder: Path) -> Subjects:
    yield from both(write(folder / "a.nii", codes=(0, 0), pixdim=pixdim(0.8, 0.8, 2.5)), folder)


@refused(__name__, "a0.nii contradicts itself", "place it up to 11.6 mm apart: read by the qform")
def label_written_by_a_tool_that_takes_the_sform(folder: Path) -> Subjects:
    moved = np.eye(4)
    moved[:3, 3] = 10, -5, 3
    write(folder / "images/a0.nii", sform=moved, qform=np.eye(4), codes=(2, 1))
    write(folder / "labels/a0.nii", MASK, sform=moved, qform=moved, codes=(1, 1))
    yield folder


@read(__name__)
def dimensions_of_one_beyond_space(folder: Path) -> Subjects:
    path = write(folder / "a.nii", VOXELS[..., None, None], sform=OBLIQUE, codes=(1, 0))
    yield Reading(path, VOXELS, by_itk(path).affine)
    yield lambda: mask_lies_on(path)


@read(__name__)
def a_fourth_dimension_of_zero(folder: Path) -> Subjects:
    path = write(folder / "a.nii", sform=OBLIQUE, codes=(1, 0), dim=[4, *SHAPE, 0, 0, 0, 0])
    yield Reading(path, VOXELS, by_itk(path).affine)


without(__name__, "medseg.data.files.nifti_geometry.UNITS", {})
without(__name__, "medseg.data.files.nifti_geometry._is_exchange", lambda _: True)
without(__name__, "medseg.data.files.nifti_geometry._is_exchange", lambda _: False)
without(__name__, "medseg.data.files.nifti_geometry.ITK_SKEW", 1.0)
without(__name__, "medseg.data.files.nifti_geometry.SCANNER", 7)
without(__name__, "medseg.data.files.nifti_geometry.SKEW", 1.0)
without(__name__, "medseg.data.files.nifti_geometry.differ", lambda *_: False)
without(__name__, "medseg.data.files.nifti_geometry._scaled", lambda place, _: place)
without(__name__, "medseg.data.files.nifti._mend_quaternion", lambda _: None)
