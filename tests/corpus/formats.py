"""Volumes whose file type, byte order or compression is unusual: read as nibabel reads them, or refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np

from medseg.data.cases.dataset import list_inputs
from tests.corpus.situation import Reading, Subjects, read, refused, without

VOXELS = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def nifti(path: Path, voxels: np.ndarray = VOXELS, kind: type = nibabel.Nifti1Image) -> Path:
    nibabel.save(kind(voxels, AFFINE), path)
    return path


@read(__name__)
def nifti_2(folder: Path) -> Subjects:
    yield Reading(nifti(folder / "a.nii.gz", kind=nibabel.Nifti2Image), VOXELS, AFFINE)


@read(__name__)
def big_endian(folder: Path) -> Subjects:
    yield Reading(nifti(folder / "a.nii", VOXELS.astype(">i2")), VOXELS, AFFINE)


@read(__name__)
def gzip_of_several_members(folder: Path) -> Subjects:
    content = nifti(folder / "a.nii").read_bytes()
    (folder / "b.nii.gz").write_bytes(gzip.compress(content[:300]) + gzip.compress(content[300:]))
    yield Reading(folder / "b.nii.gz", VOXELS, AFFINE)


@refused(__name__, "a.nii.gz", "complex64")
def complex_voxels(folder: Path) -> Subjects:
    yield Reading(nifti(folder / "a.nii.gz", VOXELS.astype(np.complex64)), VOXELS)


without(__name__, "medseg.data.files.nifti.unpacked", Path.read_bytes)


@read(__name__)
def plain_file_called_gz(folder: Path) -> Subjects:
    yield Reading(nifti(folder / "a.nii").rename(folder / "b.nii.gz"), VOXELS, AFFINE)


@read(__name__)
def gzip_called_nii(folder: Path) -> Subjects:
    yield Reading(nifti(folder / "a.nii.gz").rename(folder / "b.nii"), VOXELS, AFFINE)


@read(__name__)
def zeros_behind_the_gzip(folder: Path) -> Subjects:
    path = nifti(folder / "a.nii.gz")
    path.write_bytes(path.read_bytes() + bytes(512))
    yield Reading(path, VOXELS, AFFINE)


@refused(__name__, "a.nii.gz", "ends before")
def gzip_that_was_cut_off(folder: Path) -> Subjects:
    path = nifti(folder / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-30])
    yield Reading(path, VOXELS)


@refused(__name__, "a.nii")
def plain_file_that_was_cut_off(folder: Path) -> Subjects:
    path = nifti(folder / "a.nii")
    path.write_bytes(path.read_bytes()[:-30])
    yield Reading(path, VOXELS)


@refused(__name__, "a.nii.gz", "is no NIfTI file")
def text_called_nifti(folder: Path) -> Subjects:
    (folder / "a.nii.gz").write_bytes(b"<html>please log in</html>" * 30)
    yield Reading(folder / "a.nii.gz", VOXELS)


def analyze(folder: Path) -> Path:
    nibabel.save(nibabel.AnalyzeImage(VOXELS, AFFINE), folder / "a.img")
    return folder


@refused(__name__, "a.hdr", "Analyze", "which side is left", "dcm2niix")
def analyze_files(folder: Path) -> Subjects:
    yield lambda: list_inputs(analyze(folder), 1)


@refused(__name__, "Analyze", "which side is left", "dcm2niix")
def analyze_called_nifti(folder: Path) -> Subjects:
    header = (analyze(folder) / "a.hdr").read_bytes()
    (folder / "b.nii").write_bytes(header + bytes(4) + VOXELS.tobytes(order="F"))
    yield Reading(folder / "b.nii", VOXELS)


@refused(__name__, "a.hdr", "pair of files", "nii.gz")
def nifti_in_two_files(folder: Path) -> Subjects:
    nibabel.save(nibabel.Nifti1Pair(VOXELS, AFFINE), folder / "a.img")
    yield lambda: list_inputs(folder, 1)


@refused(__name__, "x.mgz", "FreeSurfer", "mri_convert")
def freesurfer(folder: Path) -> Subjects:
    nibabel.save(nibabel.MGHImage(VOXELS.astype(np.float32), AFFINE), folder / "x.mgz")
    yield lambda: list_inputs(folder, 1)


@refused(__name__, "a.nii.gz", "colours")
def colours(folder: Path) -> Subjects:
    rgb = np.zeros(VOXELS.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    yield Reading(nifti(folder / "a.nii.gz", rgb), VOXELS)


@read(__name__)
def scaled_integers_as_what_they_mean(folder: Path) -> Subjects:
    image = nibabel.Nifti1Image(VOXELS, AFFINE)
    image.header.set_slope_inter(0.5, -1024)
    nibabel.save(image, folder / "a.nii")
    yield Reading(folder / "a.nii", VOXELS * 0.5 - 1024)


without(__name__, "medseg.data.files.nifti.GZIP", b"nothing")
without(__name__, "medseg.data.files.nifti.MAGIC", slice(0, 0))
