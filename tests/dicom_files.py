"""DICOM files of any kind, written element by element: what SimpleITK's writer has no words for.

A value is a text, a whole number, numbers that become text (`DS`), bytes, or a list of data sets (a sequence).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))
CT, MR, PT = (f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2", "4", "128"))
ENHANCED_CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
SECONDARY, REPORT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11"
ROOT = "1.2.826.0.1.3680043.8.498"
LONG = ("OB", "OW", "SQ", "UN", "UT")
PLANE = (1, 0, 0, 0, 1, 0)

Tags = Mapping[int, tuple[str, Any]]


def encoded(tags: Tags, syntax: str = EXPLICIT) -> bytes:
    """The elements in the order of their tags."""
    order = ">" if syntax == BIG else "<"
    parts = []
    for tag, (kind, value) in sorted(tags.items()):
        content = _content(kind, value, syntax, order)
        head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
        if syntax == IMPLICIT:
            head += struct.pack("<I", len(content))
        elif kind in LONG:
            length = 0xFFFFFFFF if kind == "OB" and tag == 0x7FE00010 else len(content)  # compressed pixels
            head += kind.encode() + struct.pack(f"{order}xxI", length)
        else:
            head += kind.encode() + struct.pack(f"{order}H", len(content))
        parts.append(head + content)
    return b"".join(parts)


def _content(kind: str, value: Any, syntax: str, order: str) -> bytes:
    if kind == "SQ":
        items = [encoded(item, syntax) for item in value]
        return b"".join(struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if kind in ("US", "UL"):
        return struct.pack(order + ("H" if kind == "US" else "I"), value)
    if kind == "DS" and not isinstance(value, str):
        value = "\\".join(f"{number:.10g}"[:16] for number in np.atleast_1d(value))
    content = value if isinstance(value, bytes) else str(value).encode()
    return content + (b"\0" if kind in ("UI", "OB", "OW") else b" ") * (len(content) % 2)


def image_tags(
    pixels: np.ndarray,
    *,
    position: Sequence[float] | None = (0, 0, 0),
    plane: Sequence[float] = PLANE,
    spacing: Sequence[float] = (1, 1),
    sop_class: str = CT,
    modality: str = "CT",
    series: str = "1",
    number: int = 1,
    kinds: str = "ORIGINAL\\PRIMARY\\AXIAL",
    description: str = "",
    syntax: str = EXPLICIT,
    more: Mapping[int, tuple[str, Any] | None] | None = None,
) -> dict[int, tuple[str, Any]]:
    """The tags of one image of `pixels` (y, x) or (frame, y, x) of a 16-bit type.

    Args:
        more: tags that are added, or, where None, left out.
    """
    order = ">" if syntax == BIG else "<"
    tags: dict[int, tuple[str, Any] | None] = {
        0x00080008: ("CS", kinds),
        0x00080016: ("UI", sop_class),
        0x00080018: ("UI", f"{ROOT}.{series}.{number}"),
        0x00080060: ("CS", modality),
        0x0008103E: ("LO", description),
        0x00100010: ("PN", "Doe^Jane"),
        0x0020000D: ("UI", f"{ROOT}.7"),
        0x0020000E: ("UI", f"{ROOT}.{series}" if series else ""),
        0x00200013: ("IS", number),
        0x00280002: ("US", 1),
        0x00280004: ("CS", "MONOCHROME2"),
        0x00280010: ("US", pixels.shape[-2]),
        0x00280011: ("US", pixels.shape[-1]),
        0x00280100: ("US", 16),
        0x00280101: ("US", 16),
        0x00280102: ("US", 15),
        0x00280103: ("US", int(pixels.dtype.kind == "i")),
        0x7FE00010: ("OW", pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()),
    }
    if position is not None:
        tags |= {0x00200032: ("DS", position), 0x00200037: ("DS", plane), 0x00280030: ("DS", spacing)}
    if pixels.ndim == 3:
        tags[0x00280008] = ("IS", len(pixels))
    return {tag: value for tag, value in (tags | dict(more or {})).items() if value is not None}


def write(path: Path, tags: Tags, *, syntax: str = EXPLICIT, begins: str = "preamble") -> Path:
    """One file.

    Args:
        begins: with its preamble, with its "meta" information, or with the "data" themselves.
    """
    import zlib

    meta = encoded({0x00020002: tags[0x00080016], 0x00020003: tags[0x00080018], 0x00020010: ("UI", syntax)})
    meta = encoded({0x00020000: ("UL", len(meta))}) + meta
    data = encoded(tags, EXPLICIT if syntax == DEFLATED else syntax)
    if syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-15)
        data = packer.compress(data) + packer.flush()
    content = {"preamble": bytes(128) + b"DICM" + meta + data, "meta": meta + data, "data": data}[begins]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_slices(
    folder: Path,
    volume: np.ndarray,
    *,
    step: Sequence[float] = (0, 0, 2),
    first: int = 0,
    begins: str = "preamble",
    **options: Any,
) -> Path:
    """`(z, y, x)` as one file a slice, each `step` millimetres behind the one before."""
    for number, slice_ in enumerate(volume):
        position = tuple(number * one for one in step)
        tags = image_tags(slice_, **{"position": position, "number": first + number + 1} | options)
        write(folder / f"{first + number:03}.dcm", tags, syntax=options.get("syntax", EXPLICIT), begins=begins)
    return folder


def functional_groups(
    positions: Sequence[Sequence[float]],
    *,
    plane: Sequence[float] = PLANE,
    spacing: Sequence[float] = (1, 1),
    slopes: Sequence[tuple[float, float]] | None = None,
) -> dict[int, tuple[str, Any]]:
    """Where each frame of an enhanced object lies, and the (slope, intercept) of each."""
    shared = {
        0x00209116: ("SQ", [{0x00200037: ("DS", plane)}]),
        0x00289110: ("SQ", [{0x00280030: ("DS", spacing), 0x00180050: ("DS", 2.0)}]),
    }
    frames = []
    for number, position in enumerate(positions):
        frame: dict[int, tuple[str, Any]] = {0x00209113: ("SQ", [{0x00200032: ("DS", position)}])}
        if slopes is not None:
            slope, intercept = slopes[number]
            frame[0x00289145] = ("SQ", [{0x00281052: ("DS", intercept), 0x00281053: ("DS", slope)}])
        frames.append(frame)
    return {0x52009229: ("SQ", [shared]), 0x52009230: ("SQ", frames)}


def write_enhanced(
    path: Path,
    volume: np.ndarray,
    positions: Sequence[Sequence[float]],
    *,
    slopes: Sequence[tuple[float, float]] | None = None,
    plane: Sequence[float] = PLANE,
    spacing: Sequence[float] = (1, 1),
    more: Mapping[int, tuple[str, Any] | None] | None = None,
    **options: Any,
) -> Path:
    """`(frame, y, x)` as one enhanced file (CT unless `sop_class` says another)."""
    groups = functional_groups(positions, plane=plane, spacing=spacing, slopes=slopes)
    chosen = {"sop_class": ENHANCED_CT} | options
    tags = image_tags(volume, position=None, more={**groups, **(more or {})}, **chosen)
    return write(path, tags, syntax=options.get("syntax", EXPLICIT))


def as_pydicom_writes(file: Path, implicit: bool) -> Path:
    """A copy in a folder of its own, with or without the kinds of values, its sequences without lengths."""
    data = pydicom.dcmread(file)
    for element in data.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    data.file_meta.TransferSyntaxUID = IMPLICIT if implicit else EXPLICIT
    copy = file.parent.with_name(f"{file.parent.name}p") / file.name
    copy.parent.mkdir()
    data.save_as(copy, implicit_vr=implicit, little_endian=True)
    return copy


def csa(**values: Sequence[float]) -> tuple[str, bytes]:
    """Siemens' header in the header (CSA, its second form) with these numbers."""
    parts = [b"SV10\4\3\2\1", struct.pack("<2I", len(values), 77)]
    for name, numbers in values.items():
        parts.append(struct.pack("<64si4s3i", name.encode(), len(numbers), b"FD\0\0", 4, len(numbers), 77))
        for number in numbers:
            text = f"{number:.8f}".encode() + b"\0"
            parts.append(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return "OB", b"".join(parts)


def mosaic_tags(volume: np.ndarray, *, normal: Sequence[float] = (0, 0, 1), gap: float = 3, **options: Any) -> Tags:
    """`(z, y, x)` as the tiles of one picture, which lies around the middle of the first slice's plane."""
    slices, height, width = volume.shape
    side = int(np.ceil(np.sqrt(slices)))
    picture = np.zeros((side * height, side * width), volume.dtype)
    for number, slice_ in enumerate(volume):
        row, column = number // side * height, number % side * width
        picture[row : row + height, column : column + width] = slice_
    more = {
        0x00080070: ("LO", "SIEMENS"),
        0x00180088: ("DS", gap),
        0x0019100A: ("US", slices),
        0x00291010: csa(NumberOfImagesInMosaic=[slices], SliceNormalVector=normal),
    }
    chosen = {"kinds": "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC", "sop_class": MR, "modality": "MR"} | options
    return image_tags(picture, **{**chosen, "more": {**more, **options.get("more", {})}})


def rle(pixels: np.ndarray) -> bytes:
    """16-bit `(y, x)` as the fragments of DICOM's RLE (PS3.5, annex G), a literal run a row of up to 128."""
    segments = []
    for part in (pixels >> 8, pixels & 255):
        rows = [row.tobytes() for row in part.astype(np.uint8)]
        segment = b"".join(bytes([len(row) - 1]) + row for row in rows)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = [64, 64 + len(segments[0])]
    frame = struct.pack("<16I", 2, *offsets, *[0] * 13) + b"".join(segments)
    return encapsulated([frame])


def encapsulated(frames: Sequence[bytes]) -> bytes:
    """Compressed frames as the value of the pixels: an empty table of offsets, then a fragment each."""
    parts = [struct.pack("<HHI", 0xFFFE, 0xE000, 0)]
    for frame in frames:
        frame += b"\0" * (len(frame) % 2)
        parts.append(struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame)
    return b"".join(parts) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
