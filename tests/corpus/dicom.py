"""DICOM files as scanners, archives and people leave them: the values that ITK gives, or the reason why not."""

from __future__ import annotations

import base64
import locale
import struct
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from tests.corpus.situation import Reading, Subjects, read, refused, without
from tests.dicom_files import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    MR,
    PT,
    encapsulated,
    image_tags,
    rle,
    write,
    write_slices,
)

VOXELS = np.random.default_rng(0).integers(0, 1000, (4, 5, 6)).astype(np.uint16)  # z, y, x
JPEG = "1.2.840.10008.1.2.4"
JPEG_LS = (  # the pixels of `jpeg_ls`, by CharLS
    "/9j/6AAgU1BJRkYAAgAAAQAAAAwAAAAKChAGAQAAASwAAAEs/+gACAAAAAH/2P/3AAsQAAwACgEBEQD/+AANAf//ABIAQwEUAED/"
    "2gAIAQEAAAAAoGwNgXA2BcEwPBYLA6CkEoQg6CkEoQg6CkGhUOhkZEohDoZBiBhIqOjpCOjIyHIWAhplKQkI6OiCB0FIMQ5EELIV"
    "RRE0LIGQyIRSMSSUSaSQwgqEiI6SjlBSUUaQRAQ0VISkxOUEcQaDiSJ0ZJS05PIJDhSJ0idSsTqCRYEaZGlUK04A/9k="
)
DICOM = "medseg.data.files"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
OBLIQUE = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)


def affine(spacing: tuple[float, ...] = (1, 1, 2), origin: tuple[float, ...] = (0, 0, 0)) -> np.ndarray:
    found = np.diag([*spacing, 1.0])
    found[:3, 3] = origin
    return LPS @ found


def by_itk(folder: Path) -> Reading:
    """The folder's one series, as ITK reads it in the order of its positions."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    image = reader.Execute()
    found = np.eye(4)
    found[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    found[:3, 3] = image.GetOrigin()
    return Reading(folder, SimpleITK.GetArrayFromImage(image).T, LPS @ found)


def compressed(folder: Path, kind: str, volume: np.ndarray = VOXELS) -> Path:
    """Slices as GDCM compresses them."""
    write_slices(folder, volume)
    for file in folder.iterdir():
        image = SimpleITK.ReadImage(str(file), imageIO="GDCMImageIO")
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(file))
        writer.UseCompressionOn()
        writer.SetCompressor(kind)
        before = locale.setlocale(locale.LC_ALL)
        writer.Execute(image)
        locale.setlocale(locale.LC_ALL, before)  # GDCM leaves "C"
    return folder


# --- how a file is written -----------------------------------------------------------------------------------------


@read(__name__)
def explicit_and_implicit_and_big_endian_and_deflated(folder: Path) -> Subjects:
    for name, syntax in (("explicit", EXPLICIT), ("implicit", IMPLICIT), ("big", BIG), ("deflated", DEFLATED)):
        yield by_itk(write_slices(folder / name, VOXELS, syntax=syntax))
        yield Reading(folder / name, VOXELS.T, affine())


@read(__name__)
def no_preamble(folder: Path) -> Subjects:
    yield by_itk(write_slices(folder / "a", VOXELS, begins="meta"))
    yield Reading(folder / "a", VOXELS.T, affine())


@read(__name__)
def neither_preamble_nor_meta_elements(folder: Path) -> Subjects:
    for name, syntax in (("explicit", EXPLICIT), ("implicit", IMPLICIT)):
        write_slices(folder / name, VOXELS, begins="data", syntax=syntax)
        yield by_itk(folder / name)
        yield Reading(folder / name, VOXELS.T, affine())


@read(__name__)
def other_files_beside_the_slices(folder: Path) -> Subjects:
    write_slices(folder / "a", VOXELS)
    (folder / "a" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / "a" / "._000.dcm").write_bytes(bytes(128) + b"DICM")
    (folder / "a" / "notes.txt").write_text("\x08\x00 is no DICOM")
    yield Reading(folder / "a", VOXELS.T, affine())


@read(__name__)
def sequences_without_lengths_and_an_icon(folder: Path) -> Subjects:
    icon = struct.pack("<HH2sxxI", 0x7FE0, 0x10, b"OB", 0xFFFFFFFF) + encapsulated([b"an icon"])
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + icon + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    ended = item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    write_slices(folder / "a", VOXELS)
    for file in (folder / "a").iterdir():
        content = file.read_bytes()
        place = content.index(struct.pack("<HH", 0x28, 0x02))
        sequence = struct.pack("<HH2sxxI", 0x20, 0x9999, b"SQ", 0xFFFFFFFF) + ended
        file.write_bytes(content[:place] + sequence + content[place:])
    yield Reading(folder / "a", VOXELS.T, affine())


@read(__name__)
def jpeg_lossless(folder: Path) -> Subjects:
    yield by_itk(compressed(folder / "a", "JPEG"))
    yield Reading(folder / "a", VOXELS.T, affine())


@read(__name__)
def jpeg_2000(folder: Path) -> Subjects:
    large = np.random.default_rng(0).integers(0, 1000, (2, 40, 50)).astype(np.uint16)  # GDCM cannot write tiny ones
    for name, volume in (("a", large), ("b", large.astype(np.int16) - 500)):
        yield by_itk(compressed(folder / name, "JPEG2000", volume))
        yield Reading(folder / name, volume.T, affine())


@read(__name__)
def jpeg_ls(folder: Path) -> Subjects:
    down, right = np.indices((12, 10))
    pixels = ((down + right) * 7 % 256 + down * right * 3).astype(np.uint16)
    more = {0x7FE00010: ("OB", encapsulated([base64.b64decode(JPEG_LS)]))}
    yield Reading(write(folder / "a" / "0.dcm", image_tags(pixels, more=more), syntax=f"{JPEG}.80").parent, pixels.T)


@read(__name__)
def run_length_encoding(folder: Path) -> Subjects:
    volume = np.random.default_rng(0).integers(0, 1000, (2, 17, 16)).astype(np.uint16)
    for number, slice_ in enumerate(volume):
        more = {0x7FE00010: ("OB", rle(slice_))}
        tags = image_tags(slice_, position=(0, 0, 2 * number), number=number + 1, more=more)
        write(folder / "a" / f"{number}.dcm", tags, syntax="1.2.840.10008.1.2.5")
    yield by_itk(folder / "a")
    yield Reading(folder / "a", volume.T, affine())


@refused(__name__, "High-Throughput JPEG 2000", "dcm2niix")
def high_throughput_jpeg_2000(folder: Path) -> Subjects:
    tags = image_tags(VOXELS[0], more={0x7FE00010: ("OB", encapsulated([b"none"]))})
    yield Reading(write(folder / "a" / "0.dcm", tags, syntax=f"{JPEG}.201").parent, VOXELS[0].T)


@refused(__name__, "JPEG 2000", "cannot be decoded")
def damaged_compressed_pixels(folder: Path) -> Subjects:
    tags = image_tags(VOXELS[0], more={0x7FE00010: ("OB", encapsulated([b"no codestream"]))})
    yield Reading(write(folder / "a" / "0.dcm", tags, syntax=f"{JPEG}.90").parent, VOXELS[0].T)


@refused(__name__, "002.dcm", "unreadable DICOM")
def a_slice_that_is_cut_off(folder: Path) -> Subjects:
    file = write_slices(folder / "a", VOXELS) / "002.dcm"
    file.write_bytes(file.read_bytes()[:-10])
    yield Reading(folder / "a", VOXELS.T)


# --- values --------------------------------------------------------------------------------------------------------


@read(__name__)
def monochrome_1(folder: Path) -> Subjects:
    yield by_itk(write_slices(folder / "a", VOXELS, more={0x280004: ("CS", "MONOCHROME1")}))
    yield Reading(folder / "a", 65535 - VOXELS.T.astype(int), affine())


@read(__name__)
def monochrome_1_of_12_bits_and_signed(folder: Path) -> Subjects:
    inverse = {0x280004: ("CS", "MONOCHROME1"), 0x281052: ("DS", -1024), 0x281053: ("DS", 1)}
    twelve = {0x280101: ("US", 12), 0x280102: ("US", 11)}
    yield by_itk(write_slices(folder / "a", VOXELS, more={**inverse, **twelve}))
    yield Reading(folder / "a", 4095 - VOXELS.T.astype(int) - 1024, affine())
    yield by_itk(write_slices(folder / "b", VOXELS.astype(np.int16) - 500, more=inverse))


@read(__name__)
def a_slope_a_slice(folder: Path) -> Subjects:
    slopes = [0.0137, 0.5, 2, 31.25]
    for number, slope in enumerate(slopes):
        more = {0x281052: ("DS", 0), 0x281053: ("DS", slope)}
        step = {"position": (0, 0, 2 * number), "first": number, "sop_class": PT, "modality": "PT"}
        write_slices(folder / "a", VOXELS[number : number + 1], more=more, **step)
    yield by_itk(folder / "a")
    yield Reading(folder / "a", (VOXELS * np.array(slopes)[:, None, None]).T.astype(np.float32), affine())


@read(__name__)
def slope_of_a_magnetic_resonance_scan(folder: Path) -> Subjects:
    more = {0x281052: ("DS", 5), 0x281053: ("DS", 2)}
    yield by_itk(write_slices(folder / "a", VOXELS, sop_class=MR, modality="MR", more=more))
    yield Reading(folder / "a", VOXELS.T * 2 + 5, affine())


@read(__name__)
def twelve_bits_below_an_overlay(folder: Path) -> Subjects:
    more = {0x280101: ("US", 12), 0x280102: ("US", 11), 0x280103: ("US", 1)}
    signed = np.where(VOXELS > 500, 4096 - VOXELS, VOXELS).astype(np.uint16)
    write_slices(folder / "a", signed | 0x8000, more=more)
    yield Reading(folder / "a", np.where(VOXELS > 500, -VOXELS.astype(int), VOXELS).T, affine())


@read(__name__)
def eight_bits(folder: Path) -> Subjects:
    volume = (VOXELS // 4).astype(np.uint8)
    more = {0x280100: ("US", 8), 0x280101: ("US", 8), 0x280102: ("US", 7)}
    yield by_itk(write_slices(folder / "a", volume, more=more))


@refused(__name__, "slope or an intercept that is no number")
def a_slope_that_is_none(folder: Path) -> Subjects:
    yield Reading(write_slices(folder / "a", VOXELS, more={0x281053: ("DS", "nan")}), VOXELS.T)


@refused(__name__, "holds no pixels")
def a_header_alone(folder: Path) -> Subjects:
    yield Reading(write_slices(folder / "a", VOXELS, more={0x7FE00010: None}), VOXELS.T)


def nothing(*_: Any) -> None:
    return None


without(__name__, f"{DICOM}.dicom.header.DEFLATED", "none")
without(__name__, f"{DICOM}.dicom.header.MAGIC", b"none")
without(__name__, f"{DICOM}.dicom.header.UIDS", b"none")
without(__name__, f"{DICOM}.dicom.pixels._within", lambda values, *_: values.astype(int))
without(__name__, f"{DICOM}.dicom.pixels._decoded", nothing)
