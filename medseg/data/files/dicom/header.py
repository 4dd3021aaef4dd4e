"""The header of a DICOM file: the few elements that say what its pixels are and where they lie (DICOM PS3.5, PS3.10).

pydicom finds the elements; SimpleITK gives no sequences, in which enhanced objects say where each frame lies. Values
stay the bytes that they are, since pydicom's conversion of one quotes it in warnings, and nothing but the elements that
are named here is kept, so no name of a patient is in memory that was not asked for.
"""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from medseg.core.errors import DataError, Problem
from medseg.core.files import readable
from medseg.data.files.limits import check_bytes, compressed_limit

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
SYNTAX = 0x00020010
IMAGE_TYPE, SOP_CLASS, MODALITY, MAKER, DESCRIPTION = 0x00080008, 0x00080016, 0x00080060, 0x00080070, 0x0008103E
NAME, IDENTIFIER = 0x00100010, 0x00100020
THICKNESS, BETWEEN = 0x00180050, 0x00180088
TILES = 0x0019100A  # Siemens: how many slices a mosaic holds
SERIES, POSITION, ORIENTATION = 0x0020000E, 0x00200032, 0x00200037
SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, SPACING = (
    0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280030,
)  # fmt: skip
ALLOCATED, STORED, HIGH, SIGNED, INTERCEPT, SLOPE = (
    0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00281052, 0x00281053,
)  # fmt: skip
CSA = 0x00291010  # Siemens: a header of its own
PLANE_POSITION, PLANE_ORIENTATION, MEASURES, VALUES = 0x00209113, 0x00209116, 0x00289110, 0x00289145
SHARED, EACH_FRAME = 0x52009229, 0x52009230
FLOATS, DOUBLES, PIXELS = 0x7FE00008, 0x7FE00009, 0x7FE00010
SEQUENCES = {SHARED, EACH_FRAME, PLANE_POSITION, PLANE_ORIENTATION, MEASURES, VALUES}
WANTED = SEQUENCES | {
    IMAGE_TYPE, SOP_CLASS, MODALITY, MAKER, DESCRIPTION, THICKNESS, BETWEEN, TILES, SERIES, POSITION,
    ORIENTATION, SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, SPACING, ALLOCATED, STORED, HIGH, SIGNED, INTERCEPT,
    SLOPE, CSA,
}  # fmt: skip

UNDEFINED = 0xFFFFFFFF  # a length
LONGEST = 1 << 20  # bytes of a value that is kept; a CSA header has a tenth of it
MOST_READS = 3_000_000  # of a header, of which 10,000 frames take half
MOST_BYTES = 1 << 28  # of a header, without what is passed over
MAGIC = b"DICM"
PREAMBLE = 128
UIDS = b"1.2.840.10008."  # what every class of objects of the standard begins with
SNIFFED = 1024  # bytes, in which a file without a preamble says of what class it is

OF_PYDICOM = re.compile(r"pydicom\b")
SILENT: Any = ("ignore", None, Warning, OF_PYDICOM, 0)  # as `warnings` keeps a filter

Elements = Mapping[int, Any]  # tag -> bytes, or of a sequence its items: list[Elements]


class DamagedError(Exception):
    """The bytes are no DICOM elements."""


@dataclass(frozen=True)
class Header:
    """What a file says.

    Args:
        pixels: where the element of the pixels begins in `content`, or in the file; None: it has none.
        content: of a file that is compressed as a whole, what it unpacks to.
    """

    path: Path
    elements: Elements
    syntax: str
    pixels: int | None
    content: bytes | None = None

    @property
    def big_endian(self) -> bool:
        return self.syntax == BIG_ENDIAN

    def text(self, tag: int) -> str:
        return text(self.elements, tag)

    def number(self, tag: int, default: int | None = None) -> int:
        """A whole number (US, or IS as text).

        Raises:
            DataError: it is none, or missing and there is no default.
        """
        value = self.elements.get(tag, b"")
        try:
            if len(value) == 2 and tag != FRAMES:
                return int.from_bytes(value, "big" if self.big_endian else "little")
            return int(text(self.elements, tag)) if value or default is None else default
        except ValueError:
            raise self.problem(f"has no number in ({tag >> 16:04X},{tag & 0xFFFF:04X})") from None

    def stored_pixels(self) -> tuple[int, bytes]:
        """(the length that the element of the pixels says, its value: of compressed ones the items with the fragments).

        Raises:
            DataError: it cannot be read.
        """
        from pydicom.filereader import data_element_generator

        content = None if self.content is None else io.BytesIO(self.content)
        with _reading(self.path), content or readable(self.path).open("rb") as file:
            file.seek(self.pixels or 0)
            element = next(data_element_generator(file, self.syntax == IMPLICIT, not self.big_endian))
            if not isinstance(element.value, bytes):
                raise DamagedError
            return getattr(element, "length", UNDEFINED), element.value

    def problem(self, what: str, remedy: str = "export the series again") -> DataError:
        return DataError(Problem(str(self.path), what, remedy))


def text(elements: Elements, tag: int) -> str:
    """The text of an element; empty where there is none."""
    value = elements.get(tag, b"")
    if not isinstance(value, bytes):
        return ""
    try:
        return value.decode().strip(" \0")
    except UnicodeDecodeError:
        return value.decode("latin-1").strip(" \0")


def numbers(elements: Elements, tag: int) -> list[float] | None:
    """The numbers of an element of decimal texts; None where it is missing or holds something else."""
    try:
        return [float(number) for number in text(elements, tag).split("\\")]
    except ValueError:
        return None


def item(elements: Elements, sequence: int) -> Elements:
    """The first item of a sequence; empty where there is none."""
    items = elements.get(sequence)
    return items[0] if isinstance(items, list) and items else {}


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, with or without its preamble; an index of a disc (DICOMDIR) is no image."""
    if path.name.upper() == "DICOMDIR" or path.name.startswith(".") or not path.is_file():
        return False
    with readable(path).open("rb") as file:
        return begins_as_dicom(file.read(SNIFFED))


def begins_as_dicom(head: bytes) -> bool:
    """Whether the first `SNIFFED` bytes of a file are those of a DICOM file."""
    return _start(head) is not None


def _start(head: bytes) -> int | None:
    """Where the elements begin; None: it is no DICOM.

    Without a preamble it begins with the length of the file's "meta" elements, or with those of group 8, among them
    soon the class of the object.
    """
    if head[PREAMBLE : PREAMBLE + 4] == MAGIC:
        return PREAMBLE + 4
    if head.startswith(b"\x02\0\0\0UL\x04\0"):
        return 0
    begins = head[:2] == b"\x08\0" and head[2:4] <= b"\x18\0"
    return 0 if begins and b"\x08\0\x16\0" in head and UIDS in head else None


def read_header(path: Path, more: frozenset[int] = frozenset()) -> Header:
    """The header of one file.

    Args:
        more: tags that are kept too.

    Raises:
        DataError: it cannot be read. Nothing of it is repeated.
    """
    with _reading(path), readable(path).open("rb") as file:
        return _read(path, file, WANTED | more)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong is a DataError that quotes nothing.

    pydicom's warnings and its log do, and are off for good, since what is off for a while is on again by other threads.
    """
    if warnings.filters[:1] != [SILENT]:  # each new filter has all warnings said again that are said once
        warnings.filterwarnings("ignore", module=OF_PYDICOM.pattern)
    logging.getLogger("pydicom").disabled = True
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # of many kinds; OSError too without one of the operating system's reasons
        system = isinstance(error, OSError) and error.strerror
        what = f"cannot be read: {system}" if system else "unreadable DICOM file"
        raise DataError(Problem(str(path), what, "export the series again")) from None


def _read(path: Path, file: BinaryIO, wanted: Set[int]) -> Header:
    from pydicom.filereader import read_dataset

    start = _start(file.read(SNIFFED))
    if start is None:
        raise DamagedError
    file.seek(start)
    source: Any = _Bounded(file)
    meta = read_dataset(source, False, True, stop_when=lambda tag, *_: tag >> 16 != 2, specific_tags=[SYNTAX])
    syntax = text(_plain(meta.elements(), {SYNTAX}, source), SYNTAX)
    content: bytes | None = None
    if not syntax:  # no "meta" elements: with the kind of a value behind each tag, or without
        syntax = EXPLICIT if _peek(file, 6)[4:].isalpha() else IMPLICIT
    if syntax == DEFLATED:  # pydicom would unpack it whatever it unpacks to
        content = _inflated(path, file.read())
        file = io.BytesIO(content)
    elements, pixels = _elements(file, syntax, wanted)
    return Header(path, elements, syntax, pixels, content)


def _inflated(path: Path, content: bytes) -> bytes:
    most = compressed_limit()
    unpacker = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    found = unpacker.decompress(content, most)
    if unpacker.unconsumed_tail:
        check_bytes(path, most + 1)
    if not unpacker.eof:
        raise DamagedError
    return found


def _peek(file: BinaryIO, count: int) -> bytes:
    place = file.tell()
    found = file.read(count)
    file.seek(place)
    return found


def _elements(file: BinaryIO, syntax: str, wanted: Set[int]) -> tuple[Elements, int | None]:
    """Those that are wanted, and where the element of the pixels begins.

    pydicom takes the end of a file for the end of an element, so each has to end where it says.
    """
    from pydicom.filereader import data_element_generator

    source: Any = _Bounded(file)
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(place)
    end: int | None = place  # of the last element; None: it does not say how long it is
    found = False

    def at_pixels(tag: int, kind: str | None, length: int) -> bool:
        nonlocal end, found
        end = None if length == UNDEFINED else file.tell() + length
        too_long = tag in wanted and tag not in SEQUENCES and UNDEFINED != length > LONGEST
        if too_long or (end is not None and end > size):
            raise DamagedError
        found = tag in (FLOATS, DOUBLES, PIXELS)
        return found

    tags: list[Any] = list(wanted)
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN
    every = data_element_generator(source, implicit, little, at_pixels, specific_tags=tags)
    elements = _plain(every, wanted, source)
    if not found and (end not in (None, size) or size == place):
        raise DamagedError
    return elements, file.tell() if found else None


def _plain(some: Iterable[Any], wanted: Set[int], source: _Bounded) -> dict[int, Any]:
    """pydicom's elements as bytes, and those of sequences alike."""
    from pydicom.filereader import read_sequence

    found: dict[int, Any] = {}
    for element in some:
        tag, value = int(element.tag), element.value or b""
        if tag not in wanted:
            continue
        if isinstance(value, bytes) and element.length not in (len(value), UNDEFINED):
            raise DamagedError
        if tag not in SEQUENCES:
            found[tag] = value if isinstance(value, bytes) else b""
            continue
        if isinstance(value, bytes):  # as yet, of a sequence that says its length
            inside: Any = source.inside(value)
            value = read_sequence(inside, element.is_implicit_VR, element.is_little_endian, len(value), "ascii")
        found[tag] = [_plain(item.elements(), wanted, source) for item in value]
    return found


class _Bounded:
    """What pydicom needs of a file, and gets so often and no more: of eight bytes it may make an item of a kilobyte."""

    def __init__(self, file: BinaryIO, spent: list[int] | None = None) -> None:
        self.tell, self.seek, self._read = file.tell, file.seek, file.read
        self._spent = [0, 0] if spent is None else spent  # reads, bytes

    def inside(self, content: bytes) -> _Bounded:
        """What was read already, of which a part is read now."""
        return _Bounded(io.BytesIO(content), self._spent)

    def read(self, count: int) -> bytes:
        self._spent[0] += 1
        self._spent[1] += count
        if self._spent[0] > MOST_READS or self._spent[1] > MOST_BYTES:
            raise DamagedError
        return self._read(count)
