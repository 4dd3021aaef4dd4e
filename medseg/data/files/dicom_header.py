"""The header of a DICOM file: the few elements that say what its pixels are and where they lie (DICOM PS3.5, PS3.10).

SimpleITK gives no sequences, in which enhanced objects say where each frame lies. Nothing but the elements that are
named here is kept, so no name of a patient is in memory that was not asked for.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping
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
    SYNTAX, IMAGE_TYPE, SOP_CLASS, MODALITY, MAKER, DESCRIPTION, THICKNESS, BETWEEN, TILES, SERIES, POSITION,
    ORIENTATION, SAMPLES, PHOTOMETRIC, FRAMES, ROWS, COLUMNS, SPACING, ALLOCATED, STORED, HIGH, SIGNED, INTERCEPT,
    SLOPE, CSA,
}  # fmt: skip

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
WITH_LONG_LENGTH = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
LONGEST = 1 << 20  # bytes of a value that is kept; a CSA header has a tenth of it
DEEPEST = 16  # sequences in sequences
MOST_ITEMS = 100_000  # of a sequence: frames
MAGIC = b"DICM"
PREAMBLE = 128
UIDS = b"1.2.840.10008."  # what every class of objects of the standard begins with
SNIFFED = 1024  # bytes, in which a file without a preamble says of what class it is

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

    def open(self) -> BinaryIO:
        """The file, or what it unpacks to, at its beginning."""
        return readable(self.path).open("rb") if self.content is None else io.BytesIO(self.content)

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
    try:
        with readable(path).open("rb") as file:
            return _read(path, file, WANTED | more)
    except (DamagedError, struct.error, zlib.error, RecursionError, OverflowError):
        raise DataError(Problem(str(path), "unreadable DICOM file", "export the series again")) from None
    except OSError as error:
        raise DataError(Problem(str(path), f"cannot be read: {error.strerror}", "export the series again")) from None


def _read(path: Path, file: BinaryIO, wanted: set[int]) -> Header:
    start = _start(file.read(SNIFFED))
    if start is None:
        raise DamagedError
    file.seek(start)
    meta = _Parser(file, EXPLICIT, wanted).meta()
    syntax = text(meta, SYNTAX)
    content: bytes | None = None
    if not syntax:  # no "meta" elements: with the kind of a value behind each tag, or without
        syntax = EXPLICIT if _peek(file, 6)[4:].isalpha() else IMPLICIT
    if syntax == DEFLATED:
        content = _inflated(path, file.read())
        file = io.BytesIO(content)
    parser = _Parser(file, syntax, wanted)
    elements = parser.elements(None, 0)
    return Header(path, elements, syntax, parser.pixels, content)


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


class _Parser:
    """Elements one after the other; of a value that nobody wants only its length is read."""

    def __init__(self, file: BinaryIO, syntax: str, wanted: set[int]) -> None:
        self.file, self.wanted = file, wanted
        self.order = ">" if syntax == BIG_ENDIAN else "<"
        self.explicit = syntax != IMPLICIT
        self.pixels: int | None = None
        place = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(place)

    def meta(self) -> Elements:
        """Those of group 2, up to the first of another group."""
        found = {}
        while _peek(self.file, 2) == b"\x02\0":
            tag, kind, length = self._head()
            found[tag] = self._value(tag, kind, length, 0)
        return found

    def elements(self, end: int | None, depth: int) -> Elements:
        """All up to `end`, to the end of the item, or to the pixels."""
        if depth > DEEPEST:
            raise DamagedError
        found: dict[int, Any] = {}
        while end is None or self.file.tell() < end:
            place = self.file.tell()
            if depth == 0 and place == self.size:
                break
            tag, kind, length = self._head()
            if tag == ITEM_END:
                break
            if depth == 0 and tag in (FLOATS, DOUBLES, PIXELS):
                if length != UNDEFINED and self.file.tell() + length > self.size:
                    raise DamagedError
                self.pixels = place
                break
            value = self._value(tag, kind, length, depth)
            if tag in self.wanted:
                found[tag] = value
        return found

    def _head(self) -> tuple[int, bytes, int]:
        group, number = struct.unpack(f"{self.order}HH", self._bytes(4))
        tag = group << 16 | number
        if tag in (ITEM, ITEM_END, SEQUENCE_END) or not self.explicit:
            return tag, b"", struct.unpack(f"{self.order}I", self._bytes(4))[0]
        kind = self._bytes(2)
        if not kind.isalpha():
            raise DamagedError
        if kind in WITH_LONG_LENGTH:
            return tag, kind, struct.unpack(f"{self.order}xxI", self._bytes(6))[0]
        return tag, kind, struct.unpack(f"{self.order}H", self._bytes(2))[0]

    def _value(self, tag: int, kind: bytes, length: int, depth: int) -> Any:
        if length == UNDEFINED and kind in (b"OB", b"OW"):  # the compressed pixels of an icon
            return self._fragments()
        if kind == b"SQ" or length == UNDEFINED or (tag in SEQUENCES and not kind):
            explicit, self.explicit = self.explicit, self.explicit and kind != b"UN"  # PS3.5 6.2.2: UN is implicit
            items = self._items(length, depth, tag in self.wanted)
            self.explicit = explicit
            return items
        if length > self.size - self.file.tell():
            raise DamagedError
        if tag not in self.wanted and tag >> 16 != 2:
            self.file.seek(length, os.SEEK_CUR)
            return b""
        if length > LONGEST:
            raise DamagedError
        return self._bytes(length)

    def _items(self, length: int, depth: int, kept: bool) -> list[Elements]:
        end = None if length == UNDEFINED else self.file.tell() + length
        if end is not None and end > self.size:
            raise DamagedError
        items: list[Elements] = []
        while end is None or self.file.tell() < end:
            tag, _, inside = self._head()
            if tag == SEQUENCE_END:
                break
            if tag != ITEM or len(items) == MOST_ITEMS:
                raise DamagedError
            found = self.elements(None if inside == UNDEFINED else self.file.tell() + inside, depth + 1)
            items += [found] * kept
        return items

    def _fragments(self) -> bytes:
        while True:
            tag, _, length = self._head()
            if tag == SEQUENCE_END:
                return b""
            if tag != ITEM or length > self.size - self.file.tell():
                raise DamagedError
            self.file.seek(length, os.SEEK_CUR)

    def _bytes(self, count: int) -> bytes:
        found = self.file.read(count)
        if len(found) < count:
            raise DamagedError
        return found
