"""The stored values of a DICOM file: what is compressed through SimpleITK's GDCM, which also knows no more of a file
than its pixels, so that nothing but this module decides on slopes, signs and inversion.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.files.dicom import header as of
from medseg.data.files.dicom.header import Header

NATIVE = (of.IMPLICIT, of.EXPLICIT, of.DEFLATED, of.BIG_ENDIAN)
COMPRESSED = {
    "1.2.840.10008.1.2.4.50": "JPEG",
    "1.2.840.10008.1.2.4.51": "JPEG of 12 bits",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.5": "RLE",
}
UNREAD = {"1.2.840.10008.1.2.4.20": "High-Throughput JPEG 2000", "1.2.840.10008.1.2.4.10": "MPEG"}  # by their beginning
DECOMPRESS = "decompress it (dcmdjpeg, gdcmconv --raw), or convert it to NIfTI (dcm2niix)"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"  # a class of objects that asks for nothing but pixels


def stored_values(header: Header) -> np.ndarray:
    """The values `(frame, y, x)` as they are stored, before slope and intercept; brighter is more.

    Raises:
        DataError: there are none, fewer than the header says, of a kind that is not read, or they cannot be decoded.
    """
    if header.pixels is None:
        raise header.problem("holds no pixels")
    if header.number(of.SAMPLES, 1) != 1 or not header.text(of.PHOTOMETRIC).startswith("MONOCHROME"):
        raise header.problem("holds colours, no scan", "give the scan itself, or save it as a picture (PNG)")
    allocated, stored = header.number(of.ALLOCATED), header.number(of.STORED)
    high, signed = header.number(of.HIGH, stored - 1), header.number(of.SIGNED, 0)
    if allocated not in (8, 16, 32) or not 0 < stored <= high + 1 <= allocated or signed not in (0, 1):
        raise header.problem(f"has {stored} of {allocated} bits a pixel, of which 8, 16 or 32 are read", DECOMPRESS)
    if header.syntax in NATIVE:
        values = _native(header, allocated)
    elif header.syntax in COMPRESSED:
        values = _decoded(header)
    else:
        name = next((name for uid, name in UNREAD.items() if header.syntax.startswith(uid)), "a way that is not known")
        raise header.problem(f"is compressed by {name}, which is not read", DECOMPRESS)
    values = _within(values, stored, high, bool(signed), allocated)
    if header.text(of.PHOTOMETRIC) == "MONOCHROME1":  # as ITK does it: the least value is the brightest
        return (-1 if signed else (1 << stored) - 1) - values
    return values


def shape_of(header: Header) -> tuple[int, int, int]:
    """(frames, rows, columns); raises DataError where the header does not say it."""
    shape = (header.number(of.FRAMES, 1), header.number(of.ROWS), header.number(of.COLUMNS))
    if min(shape) < 1:
        raise header.problem("an image in which nothing is")
    return shape


def _native(header: Header, allocated: int) -> np.ndarray:
    if allocated == 8 and header.big_endian:
        raise header.problem("has 8 bits a pixel, the high byte first, which is not read", DECOMPRESS)
    shape = shape_of(header)
    count = int(np.prod(shape, dtype=object))
    length, content = header.stored_pixels()
    size = count * allocated // 8
    if length == of.UNDEFINED or len(content) < size:
        raise header.problem("has fewer pixels than its header says")
    kind = np.dtype(f"u{allocated // 8}").newbyteorder(">" if header.big_endian else "<")
    return np.frombuffer(content, kind, count).reshape(shape)


def _decoded(header: Header) -> np.ndarray:
    """The values as GDCM decodes them, of a file that holds the pixels and no word of the header."""
    import SimpleITK
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    frames, rows, columns = shape_of(header)
    copy = Dataset()
    copy.file_meta = FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = UID(header.syntax)
    copy.SOPClassUID, copy.SOPInstanceUID = MULTI_FRAME, "1.2"
    copy.SamplesPerPixel, copy.PhotometricInterpretation = 1, "MONOCHROME2"
    copy.NumberOfFrames, copy.Rows, copy.Columns = frames, rows, columns
    copy.BitsAllocated, copy.BitsStored = header.number(of.ALLOCATED), header.number(of.STORED)
    copy.HighBit = header.number(of.HIGH, copy.BitsStored - 1)
    copy.PixelRepresentation = header.number(of.SIGNED, 0)
    copy.add_new(of.PIXELS, "OB", header.stored_pixels()[1])
    copy[of.PIXELS].is_undefined_length = True
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        file = Path(folder) / "pixels.dcm"
        reader: Any = SimpleITK.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        try:
            copy.save_as(file, enforce_file_format=True)
            values = SimpleITK.GetArrayFromImage(reader.Execute())
        except (RuntimeError, ValueError):  # GDCM's, pydicom's
            what = f"has pixels ({COMPRESSED[header.syntax]}) that cannot be decoded"
            raise header.problem(what, "replace the file, or remove the case") from None
    if values.size != frames * rows * columns:
        raise header.problem("has other pixels than its header says")
    return values.reshape(frames, rows, columns)


def _within(values: np.ndarray, stored: int, high: int, signed: bool, allocated: int) -> np.ndarray:
    """The bits of the values themselves as int32 or int64: above them may be an overlay."""
    whole: np.ndarray = values.astype(np.int64 if allocated == 32 else np.int32)
    bits = (whole >> (high + 1 - stored)) & ((1 << stored) - 1)
    return bits - ((bits >> (stored - 1)) << stored) if signed else bits
