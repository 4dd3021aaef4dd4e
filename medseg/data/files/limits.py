"""How large an image may be: a small file can unpack to, or claim, more than any memory holds.

A config raises the limits where its data are read (`reading.ReadingRules`); where there is no config, whoever starts
medseg does, in its environment.
"""

from __future__ import annotations

import os
from pathlib import Path

from medseg.core.errors import ConfigError, DataError, Problem
from medseg.core.fast import TooLarge, decompress
from medseg.core.machine import GIB, machine_memory, size_text
from medseg.data.files.reading import now

FILE, PICTURE = "MEDSEG_LARGEST_FILE_GIB", "MEDSEG_LARGEST_PICTURE_MP"
DEFAULTS = {FILE: 16.0, PICTURE: 1000.0}
UNITS = {FILE: "GiB", PICTURE: "megapixels"}
KEYS = {FILE: "largest_file_gib", PICTURE: "largest_picture_mp"}
SMALL = 256 * 2**20  # bytes, of which there are always so many
DEFLATED = 1032  # bytes, at most, that one compressed byte is unpacked to
SMALLER = "if that is right, end other programs, or make it smaller; else replace the file"


def limit(name: str) -> float:
    """The limit of that name; raises ConfigError where the environment holds no number above 0."""
    said: float | None = getattr(now(), KEYS[name])
    if said is not None:
        return said
    text = os.environ.get(name)
    try:
        value = DEFAULTS[name] if text is None else float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ConfigError(Problem(name, f"{text!r} is no number above 0", "unset this variable, or correct it"))
    return value


def unpacked(path: Path) -> bytes:
    """What a gzip file holds, as far as it may and memory holds it; of a file that holds more, no more is unpacked.

    Raises:
        DataError: it holds more.
    """
    content = path.read_bytes()
    most = limit(FILE) * GIB
    free = machine_memory().free if len(content) * DEFLATED > SMALL else None
    try:
        return decompress(content, int(most if free is None else min(most, free)))
    except TooLarge:
        if free is not None and free < most:
            what = f"unpacks to more than the {size_text(free)} of memory that are free"
            raise DataError(Problem(str(path), what, SMALLER)) from None
        raise _beyond(path, f"unpacks to more than {size_text(most)}", FILE) from None


def compressed_limit() -> int:
    """Bytes that what is packed may unpack to, by the limit and by the memory that is free."""
    most, free = limit(FILE) * GIB, machine_memory().free
    return int(most if free is None else min(most, free))


def check_size(path: Path, size: float, what: str) -> None:
    """Raises DataError where so many bytes, said as `what`, are more than a file may hold."""
    if size > limit(FILE) * GIB:
        raise _beyond(path, what, FILE)


def check_bytes(path: Path, size: float) -> None:
    """Raises DataError where an image of so many bytes is larger than one may be, or than memory."""
    check_size(path, size, f"an image of {size_text(size)}, by its header")
    check_free(path, size, "an image of {}, by its header")


def check_free(path: Path | str, size: float, what: str) -> None:
    """Raises DataError where so many bytes are more than the memory that is free.

    Args:
        what: takes them, with their number as `{}`.
    """
    free = machine_memory().free if size > SMALL else None
    if free is not None and size > free:
        said = f"{what.format(size_text(size))}, but {size_text(free)} of memory are free"
        raise DataError(Problem(str(path), said, SMALLER))


def check_pixels(path: Path, rows: int, columns: int, bytes_each: int = 1) -> None:
    """Raises DataError where a picture has more pixels than one may have."""
    if rows * columns > limit(PICTURE) * 1e6:
        raise _beyond(path, f"a picture of {columns} x {rows} pixels, by its header", PICTURE)
    check_bytes(path, rows * columns * bytes_each)


def _beyond(path: Path, what: str, name: str) -> DataError:
    remedy = f"if that is right, raise {KEYS[name]} (a config's section data; without a config: the variable {name})"
    return DataError(Problem(str(path), f"{what}: the limit is {limit(name):g} {UNITS[name]}", remedy))
