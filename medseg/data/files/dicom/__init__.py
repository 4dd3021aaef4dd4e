"""A DICOM series as one image: of a folder, of the folders in it, or of a zip.

Which files of a study are the image, `series` decides; where their slices lie, `frames`; whether they form
a volume, `volume`. Nothing of a header is kept but where the slices lie and what kind of scan it is (CT, MR, PT).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.files import folders_in
from medseg.data.files.archives import ARCHIVE, holds, unpacked_files
from medseg.data.files.dicom import header as of
from medseg.data.files.dicom.frames import check_mosaic_alone, frames_of
from medseg.data.files.dicom.header import SNIFFED, Header, begins_as_dicom, is_dicom, read_header
from medseg.data.files.dicom.parts import whole_series
from medseg.data.files.dicom.series import KNOWN, Series, chosen_series, fitting, frame_count, is_image
from medseg.data.files.dicom.volume import affine_of, in_order, slides, upright, voxels_of
from medseg.data.files.formats import Image
from medseg.data.files.limits import check_bytes
from medseg.data.files.reading import choice

PATIENT = {"PatientName": of.NAME, "PatientID": of.IDENTIFIER}
BYTES = 12  # a voxel takes while a series is read


def is_series(folder: Path) -> bool:
    """Whether a folder has a DICOM file right inside."""
    return folder.is_dir() and any(is_dicom(file) for file in folder.iterdir())


def is_study(path: Path) -> bool:
    """Whether a folder, or a folder below it, has a DICOM file inside, or a zip has one."""
    return is_zip(path) or (path.is_dir() and any(is_series(folder) for folder in folders_in(path)))


def is_zip(path: Path) -> bool:
    """Whether it is a zip with a DICOM file in it."""
    return path.name.lower().endswith(ARCHIVE) and path.is_file() and holds(path, begins_as_dicom, SNIFFED)


def study_folders(folder: Path) -> list[Path]:
    """The folders whose files are those of an image: the folder alone where it has a series, else all below too."""
    return [folder] if is_series(folder) else sorted(folders_in(folder))


def find_series(folder: Path) -> tuple[list[Path], list[Path]]:
    """(the folder and those below it that hold a DICOM image, those that hold other DICOM files only), sorted.

    The others are localisers, reports, captures of a screen, and what is not as `data.dicom` asks. Where there is no
    image, none is left out, so that whoever reads them says why.
    """
    there = sorted(one for one in folders_in(folder) if is_series(one))
    images = [one for one in there if _has_image(one)]
    return (images, [one for one in there if one not in images]) if images else (there, [])


def _has_image(folder: Path) -> bool:
    try:
        every = whole_series(map(read_header, _files_in(folder)))
    except DataError:
        return True  # a damaged file is said where the image is read
    return any(fits and is_image(one) for one, fits in zip(every, fitting(every, choice()), strict=True))


def modality(path: Path) -> str | None:
    """CT, MR or PT, or None where the header says something else.

    Raises:
        DataError: see `read_series`.
    """
    with _headers(path) as (folder, headers):
        return _known(chosen_series(whole_series(headers), folder)[0])


def _known(series: Series) -> str | None:
    return series.modality if series.modality in KNOWN else None


def _kinds(series: Series) -> tuple[str | None, ...]:
    return () if (kind := _known(series)) is None else (kind,)


def read_series(path: Path) -> Image:
    """The series in a folder, in the folders below it, or in a zip; its slices in the order of their positions.

    What was decided on the way stands in `Image.notes`.

    Raises:
        DataError: no DICOM file, several series of which none is chosen, or slices that do not form a regular volume
            (one missing or there twice, unequal distances).
    """
    with _headers(path) as (folder, headers):
        series, notes = chosen_series(whole_series(headers), folder)
        return _volume(series, path, notes)


def _volume(series: Series, path: Path, notes: Sequence[str]) -> Image:
    pixels = [header.number(of.ROWS) * header.number(of.COLUMNS) * frame_count(header) for header in series.headers]
    check_bytes(path, BYTES * sum(pixels))
    frames = [frame for header in series.headers for frame in frames_of(header)]
    check_mosaic_alone(frames)
    frames = in_order(frames, path)
    aside = slides(frames, path)
    affine, volume = affine_of(frames), voxels_of(frames)
    if aside is not None:
        check_bytes(path, BYTES * volume.size)
        volume, begins = upright(volume, aside[:, ::-1] / np.array(frames[0].spacing))
        affine[:3, 3] += affine[:3, :2] @ begins[::-1]
        farthest = float(np.linalg.norm(aside, axis=1).max())
        tilt = math.degrees(math.atan2(farthest, float(np.linalg.norm(affine[:3, 2])) * (len(frames) - 1)))
        moved = f"slices are moved by up to {farthest:.1f} mm, their voxels interpolated"
        notes = [*notes, f"a tilted gantry ({tilt:.1f} degrees): {moved}"]
    data = np.empty(volume.shape[::-1], np.float32)
    for row in range(volume.shape[1]):  # plane by plane: several times faster than all axes at once
        data[:, row] = volume[:, row].T
    data = data[..., 0] if len(volume) == 1 else data  # a single slice is of two dimensions
    return Image(data[None], affine, path, notes=tuple(notes), kinds=_kinds(series))


@contextmanager
def _headers(path: Path) -> Iterator[tuple[Path, list[Header]]]:
    """The folder in which a study lies now, and the headers of its files.

    An error in a file of a zip names the zip, and the file as it is called in there.
    """
    if path.is_dir():
        files = [file for folder in study_folders(path) for file in _files_in(folder)]
        if not files:
            raise DataError(Problem(str(path), "holds no DICOM file", "give the folder of a series, or of a study"))
        yield path, [read_header(file) for file in files]
        return
    with unpacked_files(path, begins_as_dicom, SNIFFED) as (folder, files):
        if not files:
            raise DataError(Problem(str(path), "holds no DICOM file", "give the zip of a series, or of a study"))
        try:
            yield folder, [read_header(file) for file in files]
        except DataError as error:
            place = str(folder)
            raise DataError(
                [Problem(one.where.replace(place, str(path)), one.what, one.remedy) for one in error.problems]
            ) from None


def _files_in(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if is_dicom(file)]


def called_as_patient(path: Path, root: Path) -> dict[str, str]:
    """Names of a study's files, of its folder and of those up to `root` that are its patient's name or identifier.

    They are compared without case, separators and order: `jane_doe` is `Doe^Jane`. Nothing of a header is returned.

    Returns:
        The file's or folder's name -> which of the two it is.
    """
    with _headers(path) as (folder, headers):
        files = [header.path for header in headers]
        first = read_header(files[0], frozenset(PATIENT.values()))
        known = {
            tuple(words): what
            for what, tag in PATIENT.items()
            for text in first.text(tag).split("=")  # of a name its groups: letters, ideographs, sounds
            if (words := _words(text))
        }
    above = [one for one in (path, *path.parents) if one.is_relative_to(root)]
    inside = [one for file in files for one in (file, *file.parents) if one.is_relative_to(folder) and one != folder]
    names = dict.fromkeys(name for one in (*above, *inside) for name in (one.name, one.stem))
    return {name: known[tuple(words)] for name in names if tuple(words := _words(name)) in known}


def _words(text: str) -> list[str]:
    return sorted(re.findall(r"[^\W_]+", text.casefold()))
