"""A DICOM series, a folder of slices, as one image: through SimpleITK's GDCM, which decodes JPEG and RLE too.

Nothing of a header is kept but where the slices lie and what kind of scan it is (CT, MR, PT).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.data.files.formats import Image, from_itk
from medseg.data.files.limits import check_bytes

POSITION, ORIENTATION, SERIES, MODALITY = "0020|0032", "0020|0037", "0020|000e", "0008|0060"
FRAMES = "0028|0008"
PATIENT = {"PatientName": "0010|0010", "PatientID": "0010|0020"}
KNOWN = ("CT", "MR", "PT")  # what a header may say of a channel
NO_SCAN = ("SEG", "RTSTRUCT", "SR", "PR")
UNEVEN = 0.02  # share of the distance of slices by which one may be off: coordinates are written with few digits
TILT = 0.02  # how far slices may slide sideways, as a share of their distance
CONVERT = "convert it to NIfTI (dcm2niix) and look at the result"


@dataclass(frozen=True)
class Slice:
    """One file of a series: position and in-plane axes in millimetres, LPS."""

    path: Path
    series: str
    modality: str
    position: np.ndarray
    axes: np.ndarray
    rows_columns: tuple[int, ...]

    @property
    def kind(self) -> str:
        """The modality where it is one that medseg knows: an unknown one may be any text."""
        return self.modality if self.modality in (*KNOWN, *NO_SCAN) else "another kind"


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by the four letters after its preamble; an index of a disc (DICOMDIR) is no image."""
    if path.name.upper() == "DICOMDIR" or path.name.startswith(".") or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_series(folder: Path) -> bool:
    """Whether a folder has a DICOM file right inside."""
    return folder.is_dir() and any(is_dicom(file) for file in folder.iterdir())


def find_series(folder: Path) -> list[Path]:
    """The folder and those below it that hold DICOM files, sorted."""
    inside = sorted(entry for entry in folder.rglob("*") if entry.is_dir())
    return [entry for entry in (folder, *inside) if is_series(entry)]


def modality(folder: Path) -> str | None:
    """CT, MR or PT, or None where the header says something else."""
    code = read_slices(folder)[0].modality
    return code if code in KNOWN else None


def read_series(folder: Path) -> Image:
    """The series in a folder, its slices in the order of their positions.

    Raises:
        DataError: no DICOM file, several series, or slices that do not form a regular volume (one missing or there
            twice, unequal distances, a tilted gantry).
    """
    import SimpleITK

    slices = read_slices(folder)
    _check_volume(slices, folder)
    check_bytes(folder, 4 * len(slices) * math.prod(slices[0].rows_columns))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(one.path) for one in slices])
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)  # the slope may differ from slice to slice
    return from_itk(reader.Execute(), folder)


def read_slices(folder: Path) -> list[Slice]:
    """The slices of the one series in a folder, along the normal of their plane; no voxel is read.

    Raises:
        DataError: see `read_series`.
    """
    slices = [_read_slice(file) for file in sorted(folder.iterdir()) if is_dicom(file)]
    if not slices:
        raise DataError(Problem(str(folder), "holds no DICOM file", "give the folder of one series"))
    kinds: dict[str, list[Slice]] = {}
    for one in slices:
        kinds.setdefault(one.series, []).append(one)
    if len(kinds) > 1:
        counts = ", ".join(f"{files[0].kind} of {len(files)} ({files[0].path.name}, ...)" for files in kinds.values())
        raise DataError(Problem(str(folder), f"holds {len(kinds)} series: {counts}", "give each a folder of its own"))
    normal = np.cross(*slices[0].axes)
    return sorted(slices, key=lambda one: float(one.position @ normal))


def called_as_patient(folder: Path, root: Path) -> dict[str, str]:
    """Names of a series' files, of its folder and of those up to `root` that are its patient's name or identifier.

    They are compared without case, separators and order: `jane_doe` is `Doe^Jane`. Nothing of a header is returned.

    Returns:
        The file's or folder's name -> which of the two it is.
    """
    files = [file for file in sorted(folder.iterdir()) if is_dicom(file)]
    if not files:
        return {}
    reader = _header(files[0])
    known = {
        tuple(words): what
        for what, tag in PATIENT.items()
        for text in _value(reader, tag).split("=")  # of a name its groups: letters, ideographs, sounds
        if (words := _words(text))
    }
    above = [one for one in (folder, *folder.parents) if one.is_relative_to(root)]
    names = dict.fromkeys(name for one in (*above, *files) for name in (one.name, one.stem))
    return {name: known[tuple(words)] for name in names if tuple(words := _words(name)) in known}


def _words(text: str) -> list[str]:
    return sorted(re.findall(r"[^\W_]+", text.casefold()))


def _header(file: Path) -> Any:
    """The reader of one file, which has read its header."""
    import SimpleITK

    reader: Any = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise DataError(Problem(str(file), "unreadable DICOM file", "export the series again")) from None
    return reader


def _value(reader: Any, tag: str) -> str:
    """The text of a tag; empty where there is none."""
    if not reader.HasMetaDataKey(tag):
        return ""
    text = str(reader.GetMetaData(tag)).strip(" \0")
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return text.encode(errors="surrogateescape").decode("latin-1")
    return text


def _read_slice(file: Path) -> Slice:
    reader = _header(file)
    value = partial(_value, reader)
    kind = value(MODALITY)
    if kind in NO_SCAN:
        where, axes = np.zeros(3), np.eye(3)[:2]  # no scan: all that counts is that it is another series
    else:
        try:
            frames = int(value(FRAMES) or 1)
        except ValueError:
            raise DataError(Problem(str(file), "does not say how many frames it holds", CONVERT)) from None
        if frames > 1:
            raise DataError(Problem(str(file), f"one file of {frames} frames", CONVERT))
        try:
            where = np.array([float(number) for number in value(POSITION).split("\\")])
            axes = np.array([float(number) for number in value(ORIENTATION).split("\\")]).reshape(2, 3)
        except ValueError:
            where = np.zeros(0)
        if where.shape != (3,):
            raise DataError(Problem(str(file), "does not say where its slice lies", CONVERT))
    return Slice(file, value(SERIES), kind, where, axes, tuple(reader.GetSize()[:2]))


def _check_volume(slices: list[Slice], folder: Path) -> None:
    first = slices[0]
    if first.modality == "SEG":
        remedy = "labels are read as NIfTI, NRRD or MetaImage: convert it (dcmqi's segimage2itkimage)"
        raise DataError(Problem(str(folder), "is a segmentation, no scan", remedy))
    for one in slices[1:]:
        if one.rows_columns != first.rows_columns:
            what = f"{one.path.name} has {one.rows_columns}, {first.path.name} {first.rows_columns} pixels"
            raise DataError(Problem(str(folder), f"slices of different sizes: {what}", "is a localiser among them?"))
        if np.abs(one.axes - first.axes).max() > 1e-3:
            what = f"slices that are not parallel ({one.path.name}, {first.path.name})"
            raise DataError(Problem(str(folder), what, "is a localiser among them? give each series its own folder"))
    if len(slices) < 2:
        return
    normal = np.cross(*first.axes)
    steps = np.diff([one.position for one in slices], axis=0)
    along = steps @ normal
    middle = float(np.median(along))
    if along.min() < UNEVEN * max(middle, 1e-6):
        at = int(along.argmin())
        what = f"two slices at one place ({slices[at].path.name}, {slices[at + 1].path.name})"
        raise DataError(Problem(str(folder), what, "several echoes or times in one series: give each a folder"))
    if np.abs(along - middle).max() > UNEVEN * middle + 1e-3:
        at = int(np.abs(along - middle).argmax())
        what = (
            f"{along[at]:.4g} mm between {slices[at].path.name} and {slices[at + 1].path.name}, {middle:.4g} elsewhere"
        )
        raise DataError(Problem(str(folder), f"a slice is missing, or distances differ: {what}", "export it again"))
    aside = np.linalg.norm(steps - np.outer(along, normal), axis=1)
    if aside.max() > TILT * middle + 1e-3:
        what = f"slices slide sideways by {aside.max():.3g} mm each (a tilted gantry)"
        raise DataError(Problem(str(folder), what, CONVERT))
