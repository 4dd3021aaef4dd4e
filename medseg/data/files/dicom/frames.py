"""Where each slice of a DICOM file lies: a file a slice, an enhanced object of many frames, or a mosaic of Siemens."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np

from medseg.core.errors import DataError
from medseg.data.files.dicom import header as of
from medseg.data.files.dicom.header import Elements, Header, item, numbers
from medseg.data.files.dicom.pixels import shape_of
from medseg.data.files.dicom.series import frame_count

CONVERT = "convert it to NIfTI (dcm2niix) and look at the result"


@dataclass(frozen=True)
class Frame:
    """One slice.

    Args:
        number: of the frame in its file.
        position: of the middle of its first pixel, in millimetres, LPS.
        axes: (2, 3), unit vectors along a row (increasing columns) and along a column, LPS.
        spacing: millimetres between rows and between columns, as PixelSpacing has it.
        corner: row and column in the picture where it begins, which is not 0, 0 in a mosaic.
        thickness: millimetres to the next slice where nothing else says it.
    """

    header: Header
    number: int
    position: np.ndarray
    axes: np.ndarray
    spacing: tuple[float, float]
    slope: float
    intercept: float
    rows: int
    columns: int
    corner: tuple[int, int] = (0, 0)
    thickness: float = 1.0

    @property
    def name(self) -> str:
        """File, and where it has several which frame."""
        name = self.header.path.name
        if self.corner != (0, 0) or is_mosaic(self.header):
            return f"a tile of {name}"
        return f"frame {self.number + 1} of {name}" if frame_count(self.header) > 1 else name


def frames_of(header: Header) -> list[Frame]:
    """The slices of one file; no pixel is read.

    Raises:
        DataError: it does not say where they lie.
    """
    count, rows, columns = shape_of(header)
    each, shared = header.elements.get(of.EACH_FRAME), item(header.elements, of.SHARED)
    if is_mosaic(header):
        return _tiles(header, rows, columns)
    if not isinstance(each, list) or not each:
        if count > 1:
            raise header.problem(f"one file of {count} frames that do not say where they lie", CONVERT)
        return [_frame(header, 0, rows, columns, header.elements, header.elements, header.elements, header.elements)]
    if len(each) != count:
        raise header.problem(f"says of {len(each)} frames where they lie, and holds {count}", CONVERT)

    def of_frame(number: int, sequence: int) -> Elements:
        return item(each[number], sequence) or item(shared, sequence)

    sequences = (of.PLANE_POSITION, of.PLANE_ORIENTATION, of.MEASURES, of.VALUES)
    return [_frame(header, k, rows, columns, *(of_frame(k, one) for one in sequences)) for k in range(count)]


def _frame(
    header: Header,
    number: int,
    rows: int,
    columns: int,
    place: Elements,
    plane: Elements,
    measures: Elements,
    values: Elements,
) -> Frame:
    position, axes = numbers(place, of.POSITION), numbers(plane, of.ORIENTATION)
    whole = position is not None and axes is not None and len(position) == 3 and len(axes) == 6
    if not whole or not np.isfinite([*(position or ()), *(axes or ())]).all():
        which = f"frame {number + 1} of it" if header.number(of.FRAMES, 1) > 1 else "its slice"
        raise header.problem(f"does not say where {which} lies", CONVERT)
    directions = np.array(axes).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(directions[0] @ directions[1])) > 0.01:
        raise header.problem("has axes of its slice that are not at right angles", CONVERT)
    spacing = numbers(measures, of.SPACING)
    if spacing is None or len(spacing) != 2 or not (np.isfinite(spacing).all() and min(spacing) > 0):
        raise header.problem("does not say how far apart its pixels are", CONVERT)
    slope, intercept = (_factor(header, values, tag, usual) for tag, usual in ((of.SLOPE, 1.0), (of.INTERCEPT, 0.0)))
    thickness = next((n[0] for t in (of.BETWEEN, of.THICKNESS) if (n := numbers(measures, t)) and n[0] > 0), 1.0)
    return Frame(
        header,
        number,
        np.array(position),
        directions / lengths[:, None],
        (spacing[0], spacing[1]),
        slope or 1.0,  # ITK and dcm2niix read a slope of 0 as none
        intercept,
        rows,
        columns,
        thickness=thickness,
    )


def _factor(header: Header, values: Elements, tag: int, usual: float) -> float:
    if not values.get(tag):
        return usual
    found = numbers(values, tag)
    if found is None or len(found) != 1 or not math.isfinite(found[0]):
        raise header.problem("has a slope or an intercept that is no number", CONVERT)
    return found[0]


# --- mosaics -------------------------------------------------------------------------------------------------------


def is_mosaic(header: Header) -> bool:
    """Whether a picture holds all slices of a volume side by side."""
    return "MOSAIC" in header.text(of.IMAGE_TYPE).upper().split("\\")


def _tiles(header: Header, rows: int, columns: int) -> list[Frame]:
    """The slices of a mosaic, as dcm2niix and nibabel place them.

    Its header says where the first pixel would lie if the whole picture were one slice around the same centre.
    """
    count, normal = _siemens(header)
    side = math.ceil(math.sqrt(count))
    if rows % side or columns % side:
        raise header.problem(f"a mosaic of {count} slices in {rows} x {columns} pixels", CONVERT)
    whole = header.elements
    first = _frame(header, 0, rows, columns, whole, whole, whole, whole)
    height, width = rows // side, columns // side
    shift = first.axes[0] * first.spacing[1] * (columns - width) / 2
    shift = shift + first.axes[1] * first.spacing[0] * (rows - height) / 2
    across = np.cross(*first.axes)
    if abs(float(normal @ across)) < 0.99 * float(np.linalg.norm(normal)):
        raise header.problem("a mosaic whose slices do not lie behind each other", CONVERT)
    step = across * np.sign(normal @ across) * first.thickness
    return [
        Frame(
            header,
            0,
            first.position + shift + number * step,
            first.axes,
            first.spacing,
            first.slope,
            first.intercept,
            height,
            width,
            (number // side * height, number % side * width),
            first.thickness,
        )
        for number in range(count)
    ]


def _siemens(header: Header) -> tuple[int, np.ndarray]:
    """(slices, the direction in which they follow each other), by the header in the header (CSA)."""
    with warnings.catch_warnings():  # nibabel warns of its DICOM readers, of which this is none
        warnings.simplefilter("ignore")
        from nibabel.nicom import csareader

    said = header.elements.get(of.CSA, b"")
    try:
        tags = csareader.read(said)["tags"]
        count = int(tags["NumberOfImagesInMosaic"]["items"][0])
        normal = np.array([float(number) for number in tags["SliceNormalVector"]["items"]])
        if count < 1 or normal.shape != (3,) or not 0 < np.linalg.norm(normal) < np.inf:
            raise ValueError
    except Exception:  # whatever nibabel meets in bytes that are none
        what = "a mosaic without Siemens' header that says how many slices it holds, and in which order"
        raise header.problem(what, CONVERT) from None
    declared = header.number(of.TILES, count)
    if declared != count:
        raise header.problem(f"a mosaic of {count} slices, or of {declared}", CONVERT)
    return count, normal


def check_mosaic_alone(frames: list[Frame]) -> None:
    """Raises DataError where several mosaics, volumes in time, are in one series."""
    files = {frame.header.path for frame in frames}
    if len(files) > 1 and any(is_mosaic(frame.header) for frame in frames):
        raise DataError(frames[0].header.problem(f"one of {len(files)} mosaics, volumes in time", CONVERT).problems)
