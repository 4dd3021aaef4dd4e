"""Volumes whose file type, byte order or compression is unusual: read as nibabel reads them, or refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np

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


without(__name__, "medseg.data.files.formats.unpacked", Path.read_bytes)
