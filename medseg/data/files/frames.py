"""Photographs as people look at them: upright, red, green and blue of 8 bits, whatever the file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageColor, ImageOps

from medseg.core.errors import ConfigError, DataError, Problem
from medseg.core.files import check_name, replacing
from medseg.data.files.cause import cause
from medseg.data.files.pictures import PICTURES, read_pixels
from medseg.data.files.signed import signature

MOST = 4  # channels: red, green, blue and transparency
FAST = 1  # zlib's fastest: frames are many, and their files a little larger


def list_frames(path: Path) -> list[Path]:
    """The picture at `path`, or those in the folder, in the order of their names.

    Raises:
        DataError: there is nothing, or no picture, or two of one name that differ in their format only.
    """
    known = f"expected {', '.join(PICTURES)}"
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder", "give a picture, or a folder of pictures")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    frames = [file for file in files if file.name.lower().endswith(PICTURES) and not file.name.startswith(".")]
    if not frames:
        raise DataError(f"{path}: {'no picture is in this folder' if path.is_dir() else 'this is no picture'}", known)
    stems: dict[str, Path] = {}
    for frame in frames:
        check_name(frame)
        if (other := stems.setdefault(frame.stem, frame)) != frame:
            what = f"would be saved as {frame.stem}.png, as would {other.name}"
            raise DataError(Problem(str(frame), what, "rename one of them"))
    return frames


def read_frame(path: Path) -> np.ndarray:
    """`(rows, columns, 3)` uint8 of what `read_pixels` reads: grey as red, green and blue, transparency left out.

    Of 16 bits the upper 8 are kept.

    Raises:
        DataError: pixels of 32 bits, or a TIFF of other channels.
        OSError, SyntaxError: the file is damaged.
    """
    pixels = read_pixels(path)
    if pixels.dtype.itemsize > 2 or pixels.dtype.kind != "u":
        raise DataError(Problem(str(path), "pixels of 32 bits", "save it with 8 or 16 bits a channel"))
    if len(pixels) > MOST:
        raise DataError(Problem(str(path), f"{len(pixels)} channels, which are no colours", "give a colour picture"))
    if pixels.dtype.itemsize == 2:
        pixels = (pixels >> 8).astype(np.uint8)
    colours = pixels[:3] if len(pixels) > 2 else np.repeat(pixels[:1], 3, axis=0)
    return np.array(colours.transpose(1, 2, 0), order="C")


def write_frame(path: Path, frame: np.ndarray) -> None:
    """`(rows, columns, 3)` uint8 as PNG, pixels and medseg's signature only; it appears whole or not at all."""
    with replacing(path) as writing:
        Pillow.fromarray(frame).save(writing, format="PNG", compress_level=FAST, pnginfo=signature())


def read_background(what: str) -> np.ndarray:
    """A picture `(rows, columns, 3)` uint8, or a colour as a picture of one pixel.

    Raises:
        ConfigError: neither a file nor a colour, or a file that cannot be read.
    """
    if Path(what).is_file():
        try:
            return read_frame(Path(what))
        except Exception as error:  # anything that a file can make a reader raise
            raise ConfigError(
                Problem("--background", f"{what} cannot be read: {cause(error)}", "give another file")
            ) from error
    try:
        colour = ImageColor.getcolor(what, "RGB")
    except ValueError:
        remedy = "give a picture, or a colour such as white, '#00ff00' or 'rgb(0, 255, 0)'"
        raise ConfigError(Problem("--background", f"{what!r} is neither a file nor a colour", remedy)) from None
    return np.array(colour, np.uint8)[None, None]


def cover(background: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The background `(rows, columns, 3)`: scaled until it covers that size, what is too much cut off on both sides."""
    return np.array(ImageOps.fit(Pillow.fromarray(background), (columns, rows), Pillow.Resampling.BICUBIC))
