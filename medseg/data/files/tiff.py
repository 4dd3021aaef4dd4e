"""TIFF: pictures of any type and number of channels, and volumes of slices.

tifffile decodes what is not compressed, or deflated. What it asks a further package for (LZW, JPEG, zstd, fax) is
decoded by Pillow, and where Pillow would change values (more than 8 bits a colour) by ITK.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.files import readable
from medseg.data.files.formats import LPS, Image
from medseg.data.files.limits import check_bytes, check_pixels
from medseg.data.files.pixels import ORIENTATION, Pixels, decode, opened

TIFF = (".tif", ".tiff")
CHANNEL_AXES = "SCQIZT"  # what tifffile calls an axis that is neither rows (Y) nor columns (X)
DECODER = "imagecodecs"  # what tifffile asks for
COLOURS = ("YCBCR", "SEPARATED")  # which Pillow makes red, green and blue of


def spacing_file(path: Path) -> Path | None:
    """The file beside a TIFF that makes it a volume, as nnU-Net has it: `case.json` with {"spacing": [z, y, x]}."""
    if not path.name.lower().endswith(TIFF):
        return None
    names = dict.fromkeys((path.stem, re.sub(r"_\d{4}$", "", path.stem)))
    return next((file for name in names if (file := path.with_name(f"{name}.json")).is_file()), None)


@contextmanager
def _opened_tiff(path: Path) -> Iterator[Any]:
    """The file, open. tifffile would log what it finds in a damaged header, which may be a patient's name."""
    import tifffile

    log, me = logging.getLogger("tifffile"), get_ident()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != me

    log.addFilter(of_others)
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    finally:
        log.removeFilter(of_others)


def read_tiff_volume(path: Path) -> Image:
    """A TIFF of slices, `(z, y, x)` on disk, with the spacing of the file beside it; ITK's axes, as of a stack.

    Raises:
        DataError: not three axes, or no three spacings.
    """
    beside = spacing_file(path)
    if beside is None:
        raise ValueError(f"{path} is no volume")
    try:
        spacing = np.array(json.loads(readable(beside).read_text())["spacing"], dtype=np.float64)
        usable = spacing.shape == (3,) and bool(np.isfinite(spacing).all()) and spacing.min() > 0
    except (ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        raise DataError(Problem(str(beside), "does not hold three spacings", 'expected {"spacing": [z, y, x]} in mm'))
    with _opened_tiff(path) as file:
        check_bytes(path, file.series[0].nbytes)
        array = _as_stored(path, file.series[0])
    if array.ndim != 3:
        what = f"a TIFF of shape {array.shape}, with the spacing of a volume beside it"
        raise DataError(Problem(str(path), what, "expected slices, rows and columns; a picture has no such file"))
    array = array.astype(np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("="), copy=False)
    return Image(np.ascontiguousarray(array.T[None]), LPS @ np.diag([*spacing[::-1], 1.0]), path)


def read_tiff(path: Path, *, label: bool) -> Pixels:
    """A picture `(C, rows, columns)`, not turned yet.

    A palette picture is its indices where it is a label, its colours where it is an image. Where 0 is white (fax), so
    it is in an image; a label keeps the values that are stored, but of one bit 1 is white.

    Raises:
        DataError: more axes than rows, columns and channels, or a compression that nothing here decodes.
    """
    import tifffile

    with _opened_tiff(path) as file:
        series = file.series[0]
        page: Any = series.keyframe
        sizes = dict(zip(series.axes, series.shape, strict=True))
        check_pixels(path, sizes.get("Y", 1), sizes.get("X", 1))
        check_bytes(path, series.nbytes)
        kind, bits, number = page.photometric, page.bitspersample, page.samplesperpixel
        if kind.name in COLOURS and bits == 8 and number in (3, 4):
            return _by_others(path, series, label)
        try:
            array = _planes(path, series.asarray(), series.axes)
        except (ValueError, NotImplementedError, ImportError) as error:
            _raise_unless_undecoded(error)
            return _by_others(path, series, label)
        turned, colours = _orientation(page), page.colormap
    if kind == tifffile.PHOTOMETRIC.PALETTE:
        if not label and number == 1:
            array = (colours[:, array[0]] >> 8).astype(np.uint8)
        bits = 8
    elif kind == tifffile.PHOTOMETRIC.MINISWHITE and array.dtype.kind in "bu" and (bits == 1 or not label):
        array = _inverted(array, bits)
    return Pixels(array.astype(np.uint8) if array.dtype == bool else array, turned, min(bits, 8))


def _planes(path: Path, array: np.ndarray, axes: str) -> np.ndarray:
    """An array with tifffile's axes as `(C, rows, columns)`."""
    kept = [axis for axis, size in zip(axes, array.shape, strict=True) if size > 1 or axis in "YX"]
    array = array.reshape([size for axis, size in zip(axes, array.shape, strict=True) if axis in kept])
    others = [axis for axis in kept if axis not in "YX"]
    if len(others) > 1 or any(axis not in CHANNEL_AXES for axis in others):
        what = f"a TIFF of size {array.shape}, not all of whose axes are those of one picture"
        raise DataError(Problem(str(path), what, "expected rows, columns and channels"))
    return array[None] if not others else np.moveaxis(array, kept.index(others[0]), 0)


def _as_stored(path: Path, series: Any) -> np.ndarray:
    """The array of a series of slices."""
    try:
        return series.asarray()
    except (ValueError, NotImplementedError, ImportError) as error:
        _raise_unless_undecoded(error)
        return _by_others(path, series, label=True).array


def _raise_unless_undecoded(error: Exception) -> None:
    """Raises what it is called for, unless tifffile asks in it for the package that decodes a compression."""
    if not isinstance(error, ImportError) and DECODER not in str(error):
        raise error


def _by_others(path: Path, series: Any, label: bool) -> Pixels:
    """The pages of a series by Pillow, which turns them; by ITK where Pillow would change their values."""
    page = series.keyframe
    stored = [one.index for one in series.pages if one is not None]
    found: list[Pixels | None] = []
    try:
        with opened(path) as picture:
            for index in stored:
                picture.seek(index)
                found.append(decode(picture, label=label))
    except (OSError, SyntaxError, EOFError):  # a number of channels or bits that Pillow does not know
        found = [None]
    if None in found:
        return Pixels(_planes(path, _by_itk(path, series), series.axes), _orientation(page))
    every = [one for one in found if one is not None]
    array, bits = np.concatenate([one.array for one in every]), every[0].bits
    if label and page.photometric.name == "MINISWHITE" and array.dtype == np.uint8 and page.bitspersample > 1:
        array = _inverted(array, page.bitspersample)  # Pillow has done so
    return Pixels(array, 1, bits)


def _by_itk(path: Path, series: Any) -> np.ndarray:
    import SimpleITK

    remedy = f"save it without compression, or install {DECODER}"
    name = getattr(series.keyframe.compression, "name", series.keyframe.compression)
    try:
        array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="TIFFImageIO"))
    except RuntimeError:
        raise DataError(Problem(str(path), f"a TIFF with {name} compression, which is not decoded", remedy)) from None
    in_order = series.axes.endswith(("YX", "YXS")) and "S" not in series.axes[:-1]
    if not in_order or array.size != np.prod(series.shape) or array.dtype != series.dtype:
        what = (
            f"a TIFF with {name} compression and {series.keyframe.samplesperpixel} values a pixel, which is not decoded"
        )
        raise DataError(Problem(str(path), what, remedy))
    return array.reshape(series.shape)


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return tag.value if tag is not None and tag.value in range(1, 9) else 1


def _inverted(array: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of so many bits with 0 in the place of the largest."""
    return ~array if array.dtype == bool else np.array(2**bits - 1, array.dtype) - array
