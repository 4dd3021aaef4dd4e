"""Which of the DICOM files of a study are the image: one series, scans before what was derived from them.

Of a header's texts a message says nothing but fixed codes: a series is told by its modality, its plane, the number of
its slices and the name of its first file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.patterns import search_all
from medseg.data.files.dicom import header as of
from medseg.data.files.dicom.header import Header
from medseg.data.files.reading import DESCRIPTION, MODALITY, Choice, choice

KNOWN = ("CT", "MR", "PT")  # what a header may say of a channel
NO_SCAN = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "SR", "PR", "KO", "DOC", "FID")
OTHER = ("NM", "US", "XA", "CR", "DX", "MG", "OT")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SCAN, DERIVED, CAPTURE, LOCALISER, NO_IMAGE = "scan", "derived", "secondary capture", "localiser", "no image"
RANKS = (SCAN, DERIVED, CAPTURE)  # which are an image, the best first
KEYS = {MODALITY: "dicom.modality", DESCRIPTION: "dicom.description"}
REMEDY = (
    f"say which one by {' or '.join(KEYS.values())} (a config's section data; without a config: the variables "
    f"{' and '.join(KEYS)}), or give each a folder of its own"
)
PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Series:
    """Files of one series and of one role."""

    headers: tuple[Header, ...]
    role: str

    @property
    def modality(self) -> str:
        return self.headers[0].text(of.MODALITY)

    @property
    def slices(self) -> int:
        """How many there are; of what is no image, files."""
        if self.role == NO_IMAGE:
            return len(self.headers)
        return sum(frame_count(header) for header in self.headers)

    def text(self, folder: Path) -> str:
        """What it is, without a word of its header but codes."""
        first = self.headers[0].path
        name = first.relative_to(folder).as_posix() if first.is_relative_to(folder) else first.name
        code = self.modality
        kind = code if code in (*KNOWN, *NO_SCAN, *OTHER) else "another kind"
        role = "" if self.role in (SCAN, NO_IMAGE) else f", {self.role}"
        plane = _plane(self.headers[0])
        several = ", ..." if len(self.headers) > 1 else ""
        return f"{kind} of {self.slices}{', ' + plane if plane else ''}{role} ({name}{several})"


def role(header: Header) -> str:
    """What a file is for."""
    kinds = [kind.strip().upper() for kind in header.text(of.IMAGE_TYPE).split("\\")]
    if header.text(of.MODALITY) in NO_SCAN or of.ROWS not in header.elements:
        return NO_IMAGE
    if {"LOCALIZER", "SCOUT"} & set(kinds):
        return LOCALISER
    colour = header.number(of.SAMPLES, 1) != 1 or not header.text(of.PHOTOMETRIC).startswith("MONOCHROME")
    if header.text(of.SOP_CLASS).startswith(SECONDARY_CAPTURE) or colour:
        return CAPTURE
    return DERIVED if kinds[0] == "DERIVED" else SCAN


def series_of(headers: Iterable[Header]) -> list[Series]:
    """The series among files, each divided by what its files are for."""
    found: dict[tuple[str, str], list[Header]] = {}
    for header in headers:
        found.setdefault((header.text(of.SERIES), role(header)), []).append(header)
    return [Series(tuple(headers), kind) for (_, kind), headers in found.items()]


def chosen_series(every: Sequence[Series], folder: Path) -> tuple[Series, list[str]]:
    """The one that is the image, and what is to be said of it: which was chosen, and what was left out.

    Raises:
        DataError: there is none, or more than one.
        ConfigError: the pattern of the choice takes too long.
    """
    asked = choice()
    matching = [one for one, fits in zip(every, fitting(every, asked), strict=True) if fits]
    best = next((rank for rank in RANKS if any(one.role == rank for one in matching)), None)
    candidates = [one for one in matching if one.role == best]
    if not candidates:
        raise DataError(_nothing(every, folder, asked))
    if len(candidates) > 1:
        which = f"{len(candidates)} series" + (" that are so" if asked else "")
        raise DataError(Problem(str(folder), f"holds {which}: {_listed(candidates, folder)}", REMEDY))
    kept = candidates[0]
    left = [one for one in every if one is not kept]
    said = []
    if sum(one.role == SCAN for one in every) > 1:
        said.append(f"the series {kept.text(folder)} was chosen by {' and '.join(_keys(asked))}")
    if left:
        said.append(f"left out: {_listed(left, folder)}")
    return kept, said


def fitting(every: Sequence[Series], asked: Choice) -> list[bool]:
    """Which of the series are as asked."""
    fits = [asked.modality in (None, one.modality) for one in every]
    if asked.description is None:
        return fits
    texts = [one.headers[0].text(of.DESCRIPTION) for one in every]
    found = _found(asked.description, tuple(texts))
    return [fit and one for fit, one in zip(fits, found, strict=True)]


@lru_cache(maxsize=1000)  # the same study is asked for where it is listed, and each time it is read
def _found(pattern: str, texts: tuple[str, ...]) -> tuple[bool, ...]:
    return tuple(one is not None for one in search_all(pattern, texts, KEYS[DESCRIPTION]))


def is_image(one: Series) -> bool:
    """Whether it may be somebody's image, whatever else there is."""
    return one.role in (SCAN, DERIVED)


def frame_count(header: Header) -> int:
    """Frames of a file, 1 where it does not say; raises DataError where it says something else than a number."""
    try:
        return header.number(of.FRAMES, 1)
    except DataError:
        raise header.problem("does not say how many frames it holds") from None


def _nothing(every: Sequence[Series], folder: Path, asked: Choice) -> Problem:
    if asked:
        what = f"holds no series that is as {' and '.join(_keys(asked))} say: {_listed(every, folder)}"
        return Problem(str(folder), what, "correct them, or take the case out")
    if len(every) == 1 and every[0].modality == "SEG":
        remedy = "labels are read as NIfTI, NRRD or MetaImage: convert it (dcmqi's segimage2itkimage)"
        return Problem(str(folder), "is a segmentation, no scan", remedy)
    what = f"holds no scan, but {len(every)} series: {_listed(every, folder)}"
    return Problem(str(folder), what, "give the folder of a scan, or take the case out")


def _keys(asked: Choice) -> list[str]:
    return [key for key, value in zip(KEYS.values(), asked.plain(), strict=True) if value is not None]


def _listed(some: Sequence[Series], folder: Path) -> str:
    return ", ".join(one.text(folder) for one in some)


def _plane(header: Header) -> str:
    """Axial, coronal or sagittal, whatever is nearest; empty where nothing says it."""
    shared = of.item(header.elements, of.SHARED)
    place = of.item(shared, of.PLANE_ORIENTATION) if of.ORIENTATION not in header.elements else header.elements
    axes = of.numbers(place, of.ORIENTATION)
    if axes is None or len(axes) != 6 or not np.isfinite(axes).all():
        return ""
    return PLANES[int(np.abs(np.cross(axes[:3], axes[3:])).argmax())]
