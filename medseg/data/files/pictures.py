"""Pictures and their masks: PNG and JPEG through Pillow or ITK, TIFF (16-bit, any number of channels) through tifffile.

A picture has no place in a patient: its affine is the identity, with rows on the first axis and columns on the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.core.files import readable
from medseg.core.labels import Labels
from medseg.data.files.formats import Image
from medseg.data.files.limits import check_pixels
from medseg.data.files.pixels import Pixels, decode, opened, orientation
from medseg.data.files.tiff import TIFF, read_tiff, spacing_file

PICTURES = (".png", ".jpg", ".jpeg", *TIFF, ".bmp", ".webp")
LOSSY = (".jpg", ".jpeg", ".webp")
PLAIN_GREY = ((8, 0), (16, 0))  # bits a pixel and colour type in the header of a PNG
MEANING = (b"tRNS", b"sBIT", b"acTL", b"eXIf", b"XML:com.adobe.xmp")  # parts of a PNG that ITK reads otherwise, or not


def is_picture(path: Any) -> bool:
    """Whether a file (the first of several) is PNG, JPEG, BMP, or a TIFF that is no volume (see `spacing_file`)."""
    first = Path(path if isinstance(path, (str, Path)) else path[0])
    return first.name.lower().endswith(PICTURES) and spacing_file(first) is None


def read_picture(path: Path, *, label: bool = False) -> Image:
    """One file as `(C, rows, columns)` in its own type: uint8, uint16, or float32.

    A palette picture is its indices where it is a label, its colours where it is an image.

    Raises:
        DataError: a label in a lossy format, or a file with more axes than rows, columns and channels.
    """
    if label and path.name.lower().endswith(LOSSY):
        what = f"{'WebP' if path.name.lower().endswith('.webp') else 'JPEG'} changes the values of a label map"
        raise DataError(Problem(str(path), what, "save label maps as PNG or TIFF, from the original"))
    array = read_pixels(path, label=label)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind not in "bui":
        raise DataError(Problem(str(path), f"pixels of type {array.dtype}, expected numbers"))
    array = array.astype(np.uint8) if array.dtype == bool else array.astype(array.dtype.newbyteorder("="), copy=False)
    array = np.ascontiguousarray(array)
    return Image(array if array.flags.writeable else array.copy(), np.eye(4), path)  # Pillow's memory is read-only


def read_pixels(path: Path, *, label: bool = False) -> np.ndarray:
    """As `read_picture`, the array only, in whatever order it lies in memory: the one opener of pictures.

    It is turned as EXIF or TIFF says, images and labels alike, so it lies as every viewer shows it. Grey of 1, 2 or 4
    bits is 0 to 255 in an image, and the stored values in a label.
    """
    if path.name.lower().endswith(TIFF):
        return read_tiff(path, label=label).seen(label=label)
    if _is_plain_grey(path):
        return _read_itk_png(path)
    with opened(path) as picture:
        pixels = decode(picture, label=label)
        if pixels is None:
            pixels = Pixels(_read_itk_png(path), orientation(picture))
    return pixels.seen(label=label)


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


def _is_plain_grey(path: Path) -> bool:
    """Whether a file is a grey PNG of 8 or 16 bits: most label maps, which ITK decodes in two thirds of Pillow's time.

    ITK also refuses what Pillow takes: a file that was cut off, has too few rows or a wrong checksum.
    """
    with readable(path).open("rb") as file:
        head, data, _ = file.read(1 << 16).partition(b"IDAT")  # a header as long as that (a colour profile) is Pillow's
        if not head.startswith(b"\x89PNG\r\n\x1a\n") or not data:
            return False
        check_pixels(path, *(int.from_bytes(head[place : place + 4]) for place in (20, 16)))
        return (head[24], head[25]) in PLAIN_GREY and not any(part in head for part in MEANING) and not _is_turned(file)


def _is_turned(file: BinaryIO) -> bool:
    """Whether a PNG has EXIF behind its pixels, where it may stand too."""
    place = 8
    while len(head := _at(file, place, 8)) == 8:
        if head[4:] in (b"eXIf", b"IEND"):
            return head[4:] == b"eXIf"
        place += 12 + int.from_bytes(head[:4])
    return False


def _at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _read_itk_png(path: Path) -> np.ndarray:
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="PNGImageIO"))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _shape(path: Path) -> tuple[int, int]:
    """Rows and columns, without decoding where the format allows."""
    if path.name.lower().endswith(TIFF):
        rows, columns = read_pixels(path).shape[1:]
        return rows, columns
    with opened(path) as picture:
        sides = (picture.height, picture.width)
        return sides[::-1] if orientation(picture) >= 5 else sides
