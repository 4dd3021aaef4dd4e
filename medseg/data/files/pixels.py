"""What the readers of pictures share: which files Pillow may open, which way up pixels are, grey of few bits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from medseg.core.files import readable
from medseg.data.files.limits import check_pixels

ORIENTATION = 274  # the tag of EXIF and of TIFF alike: how the stored rows and columns are to be shown
AS_RGB = ("RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")  # Pillow's modes of three colours
_opening = Lock()


@dataclass(frozen=True)
class Pixels:
    """Decoded pixels, in the order of the file.

    Args:
        array: `(C, rows, columns)`.
        orientation: 1 to 8, as EXIF and TIFF count them.
        bits: of a grey pixel whose values are below `2**bits`, where these are fewer than 8.
    """

    array: np.ndarray
    orientation: int = 1
    bits: int = 8

    def seen(self, *, label: bool) -> np.ndarray:
        """As every viewer shows them: upright, and white is 255; the values of a label are those that are stored."""
        array = self.array if label or self.bits >= 8 else self.array * np.uint8(white(self.bits))
        return upright(array, self.orientation)


def white(bits: int) -> int:
    """What a grey value of 1 is as one of 8 bits: 255, 85, or 17."""
    return 255 // (2**bits - 1)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """`(..., rows, columns)` turned and mirrored as the orientation 1 to 8 says (EXIF 2.3, 4.6.4 A; TIFF 6.0)."""
    if orientation >= 5:  # the first row of the file is a column of what is shown
        array = array.swapaxes(-1, -2)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return array[..., rows, columns]


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Pillow's picture of a file, not decoded yet, which is no larger than one may be.

    Pillow's own limit, which nobody could raise, is not asked meanwhile.

    Raises:
        DataError: it is larger.
        OSError, SyntaxError: the file is damaged.
    """
    from PIL import Image as Pillow

    with ExitStack() as stack:
        # no path: of a file that it could map into memory Pillow turns some TIFF wrongly
        file = stack.enter_context(readable(path).open("rb"))
        with _opening:
            before, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
            try:
                picture = stack.enter_context(Pillow.open(file))
            finally:
                Pillow.MAX_IMAGE_PIXELS = before
        check_pixels(path, picture.height, picture.width, len(picture.getbands()))
        yield picture


def decode(picture: Any, *, label: bool) -> Pixels | None:
    """What Pillow has opened; None where that has more than 8 bits a colour, of which Pillow would drop some.

    A palette picture is its indices where it is a label, its colours where it is an image.
    """
    raw = " ".join(str(tile[3]) for tile in getattr(picture, "tile", None) or [])
    turned = 1 if picture.format == "TIFF" else orientation(picture)  # a TIFF is turned by Pillow while it is decoded
    if len(picture.getbands()) > 1 and "16" in raw:
        return None
    if picture.mode == "P" and not label:
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode in AS_RGB and picture.mode != "RGB":
        picture = picture.convert("RGB")
    if picture.mode == "1":
        return Pixels(np.asarray(picture, dtype=np.uint8)[None], turned, bits=1)
    array = np.asarray(picture)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    few = re.search(r"\bL;([24])", raw) if picture.mode == "L" else None
    if few is None:
        return Pixels(array, turned)
    bits = int(few[1])  # Pillow has spread them over 0 to 255
    return Pixels(array // np.uint8(white(bits)), turned, bits)


def orientation(picture: Any) -> int:
    """How what Pillow has opened is to be shown, from 1 to 8."""
    try:
        found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # viewers show a picture whose EXIF is damaged as it is stored
        return 1
    return found if found in range(1, 9) else 1
