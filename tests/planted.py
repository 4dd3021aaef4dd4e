"""Images that name a person wherever their formats have room for a text, and a search of everything that is written."""

from __future__ import annotations

import contextlib
import locale
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
import tifffile
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from tests.dicom import write_series

NAME, IDENTIFIER = "Zebulon^Quagmire", "QX7731Z"
TEXT = f"{NAME} {IDENTIFIER}"
SHORT = b"ZbLq"  # where there is room for a number only
TAGS = ("0008|0050", "0008|0080", "0008|0090", "0008|1030", "0008|103e", "0010|0010", "0010|4000", "0018|1030")
WORDS = ("zebulon", "quagmire", "qx7731z")
VOXELS = ("dim", "bitpix", "datatype", "magic", "sizeof_hdr", "vox_offset", "scl_slope", "scl_inter", "eol_check")
GEOMETRY = ("pixdim", "xyzt_units", "quatern", "qoffset", "srow", "sform_code", "qform_code")
STREAMS = {b"\x1f\x8b\x08": 31, b"\x78\x9c": 15, b"\x78\x01": 15, b"\x78\xda": 15, b"\x78\x5e": 15}  # zlib's wbits
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def nifti(path: Path, voxels: np.ndarray, *, two: bool = False, coded: str = "sform") -> None:
    """Every field that is not geometry, the form without a code, extensions, and what follows the voxels."""
    kind = nib.Nifti2Image if two else nib.Nifti1Image
    image = kind(voxels, None)
    getattr(image.header, f"set_{coded}")(AFFINE, code=2)
    image.header["pixdim"][1:4] = 1, 1, 2
    image.header["xyzt_units"] = 10
    for code in ("comment", "dicom", 0, 44):
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, TEXT.encode()))
    content = bytearray(image.to_bytes())
    fields = image.header.template_dtype.fields
    unused = ("quatern", "qoffset") if coded == "sform" else ("srow",)
    for name, (kind_, offset, *_) in fields.items():
        if name in VOXELS or (name.startswith(GEOMETRY) and not name.startswith(unused)):
            continue
        text = TEXT.encode() if kind_.itemsize > 4 else SHORT
        content[offset : offset + kind_.itemsize] = text[: kind_.itemsize].ljust(kind_.itemsize, b"\0")
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = bytes(content) + TEXT.encode()
    if path.name.endswith(".gz"):
        compressor = zlib.compressobj(wbits=31)
        whole = compressor.compress(whole) + compressor.flush()
    path.write_bytes(whole)


def nrrd(path: Path, voxels: np.ndarray) -> None:
    """Comments, the content, units, kinds and pairs of key and value."""
    sizes = " ".join(map(str, voxels.shape))
    kinds = {"int16": "short", "uint8": "uchar"}
    lines = [
        f"NRRD0004\n# {TEXT}\ntype: {kinds[str(voxels.dtype)]}\ndimension: 3\nspace: left-posterior-superior",
        f"sizes: {sizes}\nspace directions: (1,0,0) (0,1,0) (0,0,2)\nkinds: domain domain domain\nendian: little",
        f"encoding: raw\nspace origin: (0,0,0)\ncontent: {TEXT}\nsample units: {NAME}",
        f'space units: "{NAME}" "{NAME}" "{NAME}"\nPatientName:={TEXT}\nDICOM_0010_0020:={IDENTIFIER}\n{IDENTIFIER}:=x',
    ]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + voxels.tobytes(order="F"))


def mha(path: Path, voxels: np.ndarray) -> None:
    """The comment, the name, and fields of its own."""
    kinds = {"int16": "MET_SHORT", "uint8": "MET_UCHAR"}
    sizes = " ".join(map(str, voxels.shape))
    lines = [
        f"ObjectType = Image\nNDims = 3\nComment = {TEXT}\nName = {NAME}\nBinaryData = True",
        f"BinaryDataByteOrderMSB = False\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nPatientName = {TEXT}",
        f"{IDENTIFIER} = {TEXT}\nAcquisitionDate = {IDENTIFIER}\nElementSpacing = 1 1 2\nDimSize = {sizes}",
        f"ElementType = {kinds[str(voxels.dtype)]}\nElementDataFile = LOCAL",
    ]
    path.write_bytes("\n".join(lines).encode() + b"\n" + voxels.tobytes(order="F"))


def dicom(folder: Path, voxels: np.ndarray) -> None:
    """Tags of the patient, the study and the series, private ones, the preamble, and what is padded at the end."""
    write_series(folder, voxels.T)
    for file in folder.iterdir():
        image = SimpleITK.ReadImage(str(file))
        for tag in TAGS:
            image.SetMetaData(tag, TEXT[:16])
        image.SetMetaData("0010|0020", IDENTIFIER)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(file))
        before = locale.setlocale(locale.LC_ALL)
        writer.Execute(image)
        locale.setlocale(locale.LC_ALL, before)  # as `write_series`
        content = file.read_bytes()
        place = content.index(struct.pack("<HH", 0x10, 0x10))
        private = _element(9, 0x10, NAME) + _element(9, 0x1001, TEXT)
        padding = _element(0xFFFC, 0xFFFC, TEXT)
        head = TEXT.encode().ljust(128, b"\0")
        file.write_bytes(head + content[128:place] + private + content[place:] + padding)


def _element(group: int, number: int, text: str) -> bytes:
    """In the files' own transfer syntax, little endian without the kind of the value."""
    value = text.encode().ljust(len(text) + len(text) % 2)
    return struct.pack("<HHI", group, number, len(value)) + value


def png(path: Path, pixels: np.ndarray) -> None:
    """Texts of three kinds, EXIF, and a colour profile's description; after the picture too."""
    info = PngInfo()
    for key, compressed in (("Author", False), ("Comment", True), (IDENTIFIER, False)):
        info.add_text(key, TEXT, zip=compressed)
    info.add_itxt("Title", TEXT, zip=True)
    Pillow.fromarray(pixels).save(path, pnginfo=info, exif=_exif(), icc_profile=_profile())
    path.write_bytes(path.read_bytes() + TEXT.encode())


def jpeg(path: Path, pixels: np.ndarray) -> None:
    Pillow.fromarray(pixels).save(path, quality=95, exif=_exif(), comment=TEXT.encode(), icc_profile=_profile())


def _exif() -> Any:
    exif = Pillow.Exif()
    for tag in (0x010E, 0x010F, 0x0110, 0x0131, 0x013B, 0x013C, 0x8298):  # description, make, model, ..., copyright
        exif[tag] = TEXT
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + TEXT.encode()  # the user's comment
    return exif


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + TEXT.encode()


def tiff(path: Path, pixels: np.ndarray) -> None:
    """The description, the document's name, the artist, the host, a private tag."""
    tags = [(tag, "s", 0, TEXT, True) for tag in (269, 271, 272, 285, 315, 316, 33432, 65000)]
    options: dict[str, Any] = {"photometric": "rgb"} if pixels.ndim == 3 and pixels.shape[-1] == 3 else {}
    tifffile.imwrite(path, pixels, description=TEXT, software=TEXT, extratags=tags, metadata=None, **options)


# --- the search ----------------------------------------------------------------------------------------------------


def named(content: bytes) -> list[str]:
    """Which words of the person, or the mark of a number's field, are in these bytes, or in what they compress."""
    found = []
    for part in _parts(content):
        lower = part.lower()
        spelt = {word: (word.encode(), word.encode("utf-16-le"), word.encode("utf-16-be")) for word in WORDS}
        found += [word for word, ways in spelt.items() if any(way in lower for way in ways)]
        found += [SHORT.decode()] if SHORT in part else []
    return found


def _parts(content: bytes) -> Iterator[bytes]:
    """The bytes, and every gzip or zlib stream in them."""
    yield content
    for mark, bits in STREAMS.items():
        at = content.find(mark)
        while at >= 0:
            stream = zlib.decompressobj(bits)
            with contextlib.suppress(zlib.error):
                yield stream.decompress(content[at:], 1 << 24)
            at = content.find(mark, at + 1)


def naming(folders: Iterable[Path]) -> dict[str, list[str]]:
    """File -> what of the person is in it, or in its name."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    found = {str(file): [*named(file.read_bytes()), *named(str(file.name).encode())] for file in files}
    return {file: words for file, words in found.items() if words}
