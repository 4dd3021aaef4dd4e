"""Pictures and their masks: PNG and JPEG through Pillow or ITK, TIFF (16-bit, any number of channels) through tifffile.

A picture has no place in a patient: its affine is the identity, with rows on the first axis and columns on the second.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, get_ident
from typing import Any

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.files import readable
from medseg.core.labels import Labels
from medseg.data.files.formats import LPS, Image
from medseg.data.files.limits import check_bytes, check_pixels

TIFF = (".tif", ".tiff")
PICTURES = (".png", ".jpg", ".jpeg", *TIFF, ".bmp")
LOSSY = (".jpg", ".jpeg")
PLAIN_GREY = ((8, 0), (16, 0))  # bits a pixel and colour type in the header of a PNG
MEANING = (b"tRNS", b"sBIT", b"acTL")  # parts of a PNG that ITK reads otherwise: transparency, fewer bits, animation
AS_RGB = ("RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")  # Pillow's modes of three colours
_opening = Lock()
CHANNEL_AXES = "SCQIZT"  # what tifffile calls an axis that is neither rows (Y) nor columns (X)


def is_picture(path: Any) -> bool:
    """Whether a file (the first of several) is PNG, JPEG, BMP, or a TIFF that is no volume (see `spacing_file`)."""
    first = Path(path if isinstance(path, (str, Path)) else path[0])
    return first.name.lower().endswith(PICTURES) and spacing_file(first) is None


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
        array = file.series[0].asarray()
    if array.ndim != 3:
        what = f"a TIFF of shape {array.shape}, with the spacing of a volume beside it"
        raise DataError(Problem(str(path), what, "expected slices, rows and columns; a picture has no such file"))
    array = array.astype(np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("="), copy=False)
    return Image(np.ascontiguousarray(array.T[None]), LPS @ np.diag([*spacing[::-1], 1.0]), path)


def read_picture(path: Path, *, label: bool = False) -> Image:
    """One file as `(C, rows, columns)` in its own type: uint8, uint16, or float32.

    A palette picture is its indices where it is a label, its colours where it is an image.

    Raises:
        DataError: a label in a lossy format, or a file with more axes than rows, columns and channels.
    """
    if label and path.name.lower().endswith(LOSSY):
        what = "JPEG changes the values of a label map"
        raise DataError(Problem(str(path), what, "save label maps as PNG or TIFF, from the original"))
    if path.name.lower().endswith(TIFF):
        array = _read_tiff(path)
    else:
        array = _read_itk_png(path) if _is_plain_grey(path) else _read_pillow(path, label=label)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind not in "bui":
        raise DataError(Problem(str(path), f"pixels of type {array.dtype}, expected numbers"))
    array = array.astype(np.uint8) if array.dtype == bool else array.astype(array.dtype.newbyteorder("="), copy=False)
    array = np.ascontiguousarray(array)
    return Image(array if array.flags.writeable else array.copy(), np.eye(4), path)  # Pillow's memory is read-only


def write_picture(path: Path, mask: np.ndarray, like: Path | Image, labels: Labels | None = None) -> None:
    """A mask `(rows, columns)` as PNG: 8-bit with the labels' colours as its palette, or 16-bit grey.

    Raises:
        ValueError: another shape than the picture's, or values above 65535.
    """
    from PIL import Image as Pillow

    if (shape := like.shape if isinstance(like, Image) else _shape(like)) != mask.shape:
        raise ValueError(f"mask of shape {mask.shape} for a picture of shape {shape}")
    if mask.dtype.itemsize > 2:
        raise ValueError(f"mask values up to {mask.max()}, but a PNG holds 65535 at most")
    if mask.dtype == np.uint8:
        classes, named = ({}, {}) if labels is None else (labels.classes, labels.colours)
        colours = {value: named[name] for name, value in classes.items() if name in named}
        picture = Pillow.frombytes("P", (mask.shape[1], mask.shape[0]), mask.tobytes())
        picture.putpalette(palette(colours).ravel().tolist())
    else:
        picture = Pillow.fromarray(mask)
    picture.save(path, format="PNG")


def write_grey(path: Path, values: np.ndarray) -> None:
    """uint8 `(rows, columns)` as an 8-bit grey PNG."""
    from PIL import Image as Pillow

    Pillow.fromarray(values).save(path, format="PNG")


def palette(colours: Mapping[int, tuple[int, int, int]]) -> np.ndarray:
    """`(256, 3)` uint8: the given colours, and for every other value PASCAL VOC's (bits of the value, spread out)."""
    table = np.zeros((256, 3), np.uint8)
    values = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            table[:, channel] |= ((values >> (3 * bit + channel)) & 1).astype(np.uint8) << (7 - bit)
    for value, colour in colours.items():
        table[value] = colour
    return table


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Pillow's picture of a file, not decoded yet, which is no larger than one may be.

    Pillow's own limit, which nobody could raise, is not asked meanwhile.

    Raises:
        DataError: it is larger.
        OSError, SyntaxError: the file is damaged.
    """
    from PIL import Image as Pillow

    with _opening:
        before, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
        try:
            picture = Pillow.open(path)
        finally:
            Pillow.MAX_IMAGE_PIXELS = before
    with picture:
        check_pixels(path, picture.height, picture.width, len(picture.getbands()))
        yield picture


def _read_pillow(path: Path, *, label: bool) -> np.ndarray:
    with opened(path) as picture:
        if picture.mode == "P":
            if label:
                return np.asarray(picture)[None]
            picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        if picture.mode == "1":
            return np.asarray(picture, dtype=np.uint8)[None]
        if picture.mode in ("RGB", "RGBA", "LA") and _is_16_bit(picture):
            return _read_itk_png(path)
        if picture.mode in AS_RGB:
            return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        array = np.asarray(picture)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _is_16_bit(picture: Any) -> bool:
    """Whether a PNG of several channels has 16 bits a channel, of which Pillow would drop 8."""
    tiles = getattr(picture, "tile", None) or []
    return any("16" in str(tile[3]) for tile in tiles)


def _is_plain_grey(path: Path) -> bool:
    """Whether a file is a grey PNG of 8 or 16 bits: most label maps, which ITK decodes in two thirds of Pillow's time.

    ITK also refuses what Pillow takes: a file that was cut off, has too few rows or a wrong checksum.
    """
    with readable(path).open("rb") as file:
        head, data, _ = file.read(1 << 16).partition(b"IDAT")  # a header as long as that (a colour profile) is Pillow's
    if not head.startswith(b"\x89PNG\r\n\x1a\n") or not data:
        return False
    check_pixels(path, *(int.from_bytes(head[place : place + 4]) for place in (20, 16)))
    return (head[24], head[25]) in PLAIN_GREY and not any(part in head for part in MEANING)


def _read_itk_png(path: Path) -> np.ndarray:
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="PNGImageIO"))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _read_tiff(path: Path) -> np.ndarray:
    with _opened_tiff(path) as file:
        series = file.series[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
        check_pixels(path, sizes.get("Y", 1), sizes.get("X", 1))
        check_bytes(path, series.nbytes)
        array, axes = series.asarray(), series.axes
    kept = [axis for axis, size in zip(axes, array.shape, strict=True) if size > 1 or axis in "YX"]
    array = array.reshape([size for axis, size in zip(axes, array.shape, strict=True) if axis in kept])
    others = [axis for axis in kept if axis not in "YX"]
    if len(others) > 1 or any(axis not in CHANNEL_AXES for axis in others):
        what = f"a TIFF of size {array.shape}, not all of whose axes are those of one picture"
        raise DataError(Problem(str(path), what, "expected rows, columns and channels"))
    if not others:
        return array[None]
    return np.moveaxis(array, kept.index(others[0]), 0)


def _shape(path: Path) -> tuple[int, int]:
    """Rows and columns, without decoding where the format allows."""
    if path.name.lower().endswith(TIFF):
        return read_picture(path).array.shape[1:]
    with opened(path) as picture:
        return picture.height, picture.width
