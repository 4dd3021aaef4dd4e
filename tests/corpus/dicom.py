"""DICOM as scanners, archives and people leave it: the voxels that ITK gives, or the reason why not."""

from __future__ import annotations

import base64
import locale
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK

from medseg.data.cases.dataset import list_inputs
from medseg.data.files import dicom_choice, limits
from medseg.data.files.images import read_image
from tests.corpus.situation import Reading, Subjects, read, refused, warned, without
from tests.dicom_files import (
    BIG,
    DEFLATED,
    ENHANCED_MR,
    EXPLICIT,
    IMPLICIT,
    MR,
    PT,
    REPORT,
    SECONDARY,
    encapsulated,
    image_tags,
    mosaic_tags,
    rle,
    write,
    write_enhanced,
    write_slices,
)

VOXELS = np.random.default_rng(0).integers(0, 1000, (4, 5, 6)).astype(np.uint16)  # z, y, x
JPEG = "1.2.840.10008.1.2.4"
JPEG_LS = (  # the pixels of `jpeg_ls`, by CharLS
    "/9j/6AAgU1BJRkYAAgAAAQAAAAwAAAAKChAGAQAAASwAAAEs/+gACAAAAAH/2P/3AAsQAAwACgEBEQD/+AANAf//ABIAQwEUAED/"
    "2gAIAQEAAAAAoGwNgXA2BcEwPBYLA6CkEoQg6CkEoQg6CkGhUOhkZEohDoZBiBhIqOjpCOjIyHIWAhplKQkI6OiCB0FIMQ5EELIV"
    "RRE0LIGQyIRSMSSUSaSQwgqEiI6SjlBSUUaQRAQ0VISkxOUEcQaDiSJ0ZJS05PIJDhSJ0idSsTqCRYEaZGlUK04A/9k="
)
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


def study_of(root: Path, scans: int = 2) -> Path:
    """A data set whose images are DICOM folders in folders, all different."""
    for number in range(scans):
        volume = VOXELS + number
        write_slices(root / "images" / f"c{number}" / "scan", volume)
        (root / "labels").mkdir(exist_ok=True)
        label = nibabel.Nifti1Image((volume.T > 500).astype(np.uint8), affine())
        nibabel.save(label, root / "labels" / f"c{number}.nii.gz")
    return root


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent))
    return path


@contextmanager
def choosing(**asked: str) -> Iterator[None]:
    dicom_choice.choose_series(**asked)
    try:
        yield
    finally:
        dicom_choice.choose_series()


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


# --- where slices lie ----------------------------------------------------------------------------------------------


@read(__name__)
def files_in_another_order_than_the_slices(folder: Path) -> Subjects:
    yield by_itk(write_slices(folder / "a", VOXELS[::-1], step=(0, 0, -2)))
    yield Reading(folder / "a", VOXELS.T, affine(origin=(0, 0, -6)))


@read(__name__)
def oblique_and_sagittal(folder: Path) -> Subjects:
    yield by_itk(write_slices(folder / "a", VOXELS, plane=OBLIQUE, spacing=(0.7, 1.3)))
    yield by_itk(write_slices(folder / "b", VOXELS, plane=(0, 1, 0, 0, 0, -1), step=(-2, 0, 0)))


@read(__name__)
def noise_in_positions(folder: Path) -> Subjects:
    for number, slice_ in enumerate(VOXELS):
        noisy = (1e-5 * number, 0, 2 * number + 1e-4 * (number % 3))
        plane = (0.99999, 1e-5, 0, 0, 1, 1e-6)
        write_slices(folder / "a", slice_[None], position=noisy, first=number, plane=plane)
    yield Reading(folder / "a", VOXELS.T)


@read(__name__)
def no_series_number(folder: Path) -> Subjects:
    yield Reading(write_slices(folder / "a", VOXELS, series=""), VOXELS.T, affine())


@read(__name__)
def a_single_slice(folder: Path) -> Subjects:
    yield Reading(write_slices(folder / "a", VOXELS[:1]), VOXELS[0].T)


@refused(__name__, "a slice is missing", "4 mm between 001.dcm and 003.dcm")
def a_missing_slice(folder: Path) -> Subjects:
    (write_slices(folder / "a", VOXELS) / "002.dcm").unlink()
    yield Reading(folder / "a", VOXELS.T)


@refused(__name__, "two slices at one place", "001.dcm, copy.dcm")
def a_slice_that_is_there_twice(folder: Path) -> Subjects:
    write_slices(folder / "a", VOXELS)
    shutil.copy(folder / "a" / "001.dcm", folder / "a" / "copy.dcm")
    yield Reading(folder / "a", VOXELS.T)


@refused(__name__, "pixels of different sizes", "2 x 2 mm in 003.dcm", "1 x 1 mm")
def pixels_of_two_sizes(folder: Path) -> Subjects:
    write_slices(folder / "a", VOXELS[:3])
    write_slices(folder / "a", VOXELS[3:], position=(0, 0, 6), first=3, spacing=(2, 2))
    yield Reading(folder / "a", VOXELS.T)


@refused(__name__, "slices of different sizes")
def slices_of_two_sizes(folder: Path) -> Subjects:
    write_slices(folder / "a", VOXELS[:3])
    write_slices(folder / "a", VOXELS[3:, :4], position=(0, 0, 6), first=3)
    yield Reading(folder / "a", VOXELS.T)


@refused(__name__, "not parallel")
def a_slice_that_is_turned(folder: Path) -> Subjects:
    write_slices(folder / "a", VOXELS[:3])
    write_slices(folder / "a", VOXELS[3:], position=(0, 0, 6), first=3, plane=OBLIQUE)
    yield Reading(folder / "a", VOXELS.T)


@refused(__name__, "001.dcm", "does not say where its slice lies")
def a_slice_without_a_place(folder: Path) -> Subjects:
    write_slices(folder / "a", VOXELS[:1])
    write_slices(folder / "a", VOXELS[1:2], first=1, more={0x200032: None})
    yield Reading(folder / "a", VOXELS.T)


# --- a tilted gantry -----------------------------------------------------------------------------------------------


@warned(__name__, "tilted gantry (26.6 degrees)")
def a_tilted_gantry(folder: Path) -> Subjects:
    """As ITK resamples each slice, moved aside, on the grid of all."""
    spacing, slide, across = (1.5, 1.0), (0.6, 0.8), 2.0
    volume = np.random.default_rng(1).normal(0, 100, (4, 9, 8)).astype(np.int16)
    root = folder / "set"
    write_slices(root / "images" / "c0", volume, step=(*slide, across), spacing=spacing)
    rows, columns = int(np.ceil(3 * slide[1] / spacing[0])), int(np.ceil(3 * slide[0] / spacing[1]))
    expected = []
    for number, slice_ in enumerate(volume):
        image = SimpleITK.GetImageFromArray(slice_.astype(np.float32))
        image.SetSpacing(spacing[::-1])
        image.SetOrigin([number * one for one in slide])
        size = (8 + columns, 9 + rows)
        grid = (size, SimpleITK.Transform(), SimpleITK.sitkLinear, (0.0, 0.0), spacing[::-1], (1.0, 0.0, 0.0, 1.0))
        expected.append(SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, *grid, float(volume.min()))))
    voxels = np.stack(expected).T
    yield Reading(root / "images" / "c0", voxels, affine((1, 1.5, 2)), tolerance=1e-3)
    (root / "labels").mkdir()
    nibabel.save(
        nibabel.Nifti1Image((voxels > 50).astype(np.uint8), affine((1, 1.5, 2))), root / "labels" / "c0.nii.gz"
    )
    yield root


@refused(__name__, "unequal steps")
def slices_that_slide_anyhow(folder: Path) -> Subjects:
    for number, aside in enumerate((0, 1, 3, 3.5)):
        write_slices(folder / "a", VOXELS[number : number + 1], position=(0, aside, 2 * number), first=number)
    yield Reading(folder / "a", VOXELS.T)


# --- several slices in a file --------------------------------------------------------------------------------------


@read(__name__)
def an_enhanced_scan(folder: Path) -> Subjects:
    write_enhanced(folder / "a" / "0.dcm", VOXELS, [(0, 0, 2 * number) for number in range(4)], spacing=(0.5, 0.75))
    yield Reading(folder / "a", VOXELS.T, affine((0.75, 0.5, 2)))


@read(__name__)
def an_enhanced_scan_with_frames_in_another_order_and_slopes(folder: Path) -> Subjects:
    order, slopes = [2, 0, 3, 1], [(1.0, 0.0), (2.0, -5.0), (0.25, 3.0), (4.0, 10.0)]
    options = {"sop_class": ENHANCED_MR, "modality": "MR", "slopes": [slopes[number] for number in order]}
    write_enhanced(folder / "a" / "0.dcm", VOXELS[order], [(1, 2, 2 * number) for number in order], **options)
    scaled = [slice_ * slope + intercept for slice_, (slope, intercept) in zip(VOXELS, slopes, strict=True)]
    yield Reading(folder / "a", np.stack(scaled).T, affine(origin=(1, 2, 0)))


@read(__name__)
def an_enhanced_scan_in_implicit_elements(folder: Path) -> Subjects:
    places = [(0, 0, 2 * number) for number in range(4)]
    write_enhanced(folder / "a" / "0.dcm", VOXELS, places, syntax=IMPLICIT, plane=OBLIQUE)
    yield Reading(folder / "a", VOXELS.T, read_image(write_slices(folder / "b", VOXELS, plane=OBLIQUE)).affine)


@read(__name__)
def an_enhanced_scan_in_two_files(folder: Path) -> Subjects:
    write_enhanced(folder / "a" / "1.dcm", VOXELS[:2], [(0, 0, 0), (0, 0, 2)])
    write_enhanced(folder / "a" / "2.dcm", VOXELS[2:], [(0, 0, 4), (0, 0, 6)], number=2)
    yield Reading(folder / "a", VOXELS.T, affine())


@refused(__name__, "two slices at one place", "frame 1 of 0.dcm, frame 3 of 0.dcm", "times")
def an_enhanced_scan_of_several_times(folder: Path) -> Subjects:
    write_enhanced(folder / "a" / "0.dcm", VOXELS, [(0, 0, 0), (0, 0, 2), (0, 0, 0), (0, 0, 2)])
    yield Reading(folder / "a", VOXELS.T)


@refused(__name__, "one file of 4 frames that do not say where they lie", "dcm2niix")
def frames_without_places(folder: Path) -> Subjects:
    write(folder / "a" / "0.dcm", image_tags(VOXELS))
    yield Reading(folder / "a", VOXELS.T)


@refused(__name__, "says of 3 frames where they lie, and holds 4")
def frames_that_are_not_all_described(folder: Path) -> Subjects:
    write_enhanced(folder / "a" / "0.dcm", VOXELS, [(0, 0, 2 * number) for number in range(3)])
    yield Reading(folder / "a", VOXELS.T)


@read(__name__)
def a_mosaic(folder: Path) -> Subjects:
    """dcm2niix's and nibabel's rule: the picture lies around the centre of the slice."""
    volume = np.arange(7 * 4 * 6, dtype=np.uint16).reshape(7, 4, 6)
    tags = mosaic_tags(volume, position=(-10, -20, 5), spacing=(2, 1.5))
    corner = (-10 + 1.5 * (18 - 6) / 2, -20 + 2 * (12 - 4) / 2, 5)
    yield Reading(write(folder / "a" / "0.dcm", tags).parent, volume.T, affine((1.5, 2, 3), corner))
    tags = mosaic_tags(volume, normal=(0, 0, -1), position=(-10, -20, 5), spacing=(2, 1.5))
    below = (*corner[:2], 5 - 6 * 3)
    yield Reading(write(folder / "b" / "0.dcm", tags).parent, volume[::-1].T, affine((1.5, 2, 3), below))


@refused(__name__, "a mosaic without Siemens' header", "dcm2niix")
def a_mosaic_that_does_not_say_how_many(folder: Path) -> Subjects:
    tags = mosaic_tags(VOXELS, more={0x00291010: None})
    yield Reading(write(folder / "a" / "0.dcm", tags).parent, VOXELS.T)


@refused(__name__, "2 mosaics", "time")
def mosaics_in_time(folder: Path) -> Subjects:
    for number in range(2):
        write(folder / "a" / f"{number}.dcm", mosaic_tags(VOXELS, number=number + 1))
    yield Reading(folder / "a", VOXELS.T)


# --- studies -------------------------------------------------------------------------------------------------------


@read(__name__)
def a_study_of_one_scan(folder: Path) -> Subjects:
    """A data set, and the same folders as inputs of a prediction."""
    yield study_of(folder / "set")
    yield Reading(folder / "set" / "images" / "c0", VOXELS.T, affine())
    (case,) = list_inputs(folder / "set" / "images" / "c0", 1)
    yield Reading(Path(case.first), VOXELS.T, affine())


@warned(__name__, "left out: MR of 1, coronal, localiser (survey/0.dcm)")
def a_localiser_beside_a_scan(folder: Path) -> Subjects:
    study = study_of(folder / "set") / "images" / "c0"
    tags = image_tags(
        VOXELS[0], series="2", kinds="ORIGINAL\\PRIMARY\\LOCALIZER", plane=(1, 0, 0, 0, 0, -1), modality="MR"
    )
    write(study / "survey" / "0.dcm", tags)
    yield folder / "set"
    yield Reading(study, VOXELS.T, affine())
    (case,) = list_inputs(study, 1)
    yield Reading(Path(case.first), VOXELS.T, affine())


@warned(__name__, "left out: CT of 1, sagittal, localiser (999.dcm)")
def a_localiser_of_the_same_series(folder: Path) -> Subjects:
    study = study_of(folder / "set") / "images" / "c0" / "scan"
    kinds = "ORIGINAL\\PRIMARY\\LOCALIZER"
    write(study / "999.dcm", image_tags(VOXELS[0], kinds=kinds, plane=(0, 1, 0, 0, 0, -1), number=99))
    shutil.move(study, folder / "set" / "images" / "c0_")
    shutil.rmtree(folder / "set" / "images" / "c0")
    (folder / "set" / "images" / "c0_").rename(folder / "set" / "images" / "c0")
    yield folder / "set"
    yield Reading(folder / "set" / "images" / "c0", VOXELS.T, affine())


@warned(__name__, "derived (mpr/000.dcm, ...)", "SR of 1 (report.dcm)", "secondary capture (screen.dcm)")
def derived_images_captures_and_reports(folder: Path) -> Subjects:
    study = study_of(folder / "set") / "images" / "c0"
    write_slices(study / "mpr", VOXELS[:3], series="2", kinds="DERIVED\\SECONDARY\\MPR")
    yield folder / "set"
    yield Reading(study, VOXELS.T, affine())
    other = study_of(folder / "more") / "images" / "c1"
    capture = image_tags(VOXELS[0], position=None, series="3", sop_class=SECONDARY, modality="OT")
    write(other / "screen.dcm", capture)
    report = image_tags(VOXELS[0], position=None, series="4", sop_class=REPORT, modality="SR")
    write(other / "report.dcm", {tag: value for tag, value in report.items() if tag >> 16 not in (0x28, 0x7FE0)})
    for file in sorted((other / "scan").iterdir()):
        file.rename(other / file.name)
    (other / "scan").rmdir()
    yield folder / "more"


@read(__name__)
def a_derived_series_alone(folder: Path) -> Subjects:
    yield Reading(write_slices(folder / "a", VOXELS, kinds="DERIVED\\PRIMARY\\ADC"), VOXELS.T, affine())


@refused(__name__, "holds no scan", "localiser")
def localisers_alone(folder: Path) -> Subjects:
    yield Reading(write_slices(folder / "a", VOXELS, kinds="ORIGINAL\\PRIMARY\\LOCALIZER"), VOXELS.T)


@refused(__name__, "000.dcm", "holds colours")
def a_colour_picture(folder: Path) -> Subjects:
    colour = {0x280002: ("US", 3), 0x280004: ("CS", "RGB")}
    yield lambda: read_image(write_slices(folder / "a", VOXELS[:1], more=colour))


def two_series(folder: Path) -> Path:
    write_slices(folder / "one", VOXELS, description="Doe T1")
    write_slices(folder / "two", VOXELS[:3], series="2", description="Doe T2 flair", sop_class=MR, modality="MR")
    return folder


@refused(__name__, "2 series", "CT of 4, axial (one/000.dcm, ...)", "MR of 3", "dicom.description")
def a_study_of_two_scans(folder: Path) -> Subjects:
    yield Reading(two_series(folder / "a"), VOXELS.T)


@read(__name__)
def series_chosen_by_modality_and_description(folder: Path) -> Subjects:
    two_series(folder / "a")
    for asked in ({"modality": "MR"}, {"description": "(?i)t2.*FLAIR"}, {"modality": "MR", "description": "T"}):
        with choosing(**asked):
            yield Reading(folder / "a", VOXELS[:3].T, affine())
            (case,) = list_inputs(folder / "a", 1)
            yield Reading(Path(case.first), VOXELS[:3].T, affine())


@warned(__name__, "the series MR of 3, axial (two/000.dcm, ...) was chosen by dicom.modality", "left out: CT of 4")
def a_data_set_of_studies_with_a_rule(folder: Path) -> Subjects:
    root = study_of(folder / "set")
    shutil.rmtree(root / "images" / "c0")
    two_series(root / "images" / "c0")
    label = nibabel.Nifti1Image((VOXELS[:3].T > 500).astype(np.uint8), affine())
    nibabel.save(label, root / "labels" / "c0.nii.gz")
    shutil.rmtree(root / "images" / "c1")
    (root / "labels" / "c1.nii.gz").unlink()
    with choosing(modality="MR"):
        yield root


@refused(__name__, "holds no series that is as dicom.modality say", "CT of 4")
def a_rule_that_no_series_fits(folder: Path) -> Subjects:
    two_series(folder / "a")
    with choosing(modality="PT"):
        yield Reading(folder / "a", VOXELS.T)


@refused(__name__, "3 series")
def mixed_series_in_one_folder(folder: Path) -> Subjects:
    for number in range(3):
        write_slices(folder / "a", VOXELS, series=str(number + 1), first=10 * number)
    yield Reading(folder / "a", VOXELS.T)


# --- zips ----------------------------------------------------------------------------------------------------------


@read(__name__)
def a_zip_of_a_series(folder: Path) -> Subjects:
    path = zipped(write_slices(folder / "a.v1", VOXELS), folder / "a.v1.zip")
    yield Reading(path, VOXELS.T, affine())
    (case,) = list_inputs(path, 1)
    assert case.name == "a.v1"
    root = study_of(folder / "set")
    zipped(root / "images" / "c0", root / "images" / "c0.zip")
    shutil.rmtree(root / "images" / "c0")
    yield root
    assert [case.name for case in list_inputs(root / "images", 1)] == ["c0", "c1_scan"]


@read(__name__)
def a_zip_with_names_that_lead_elsewhere(folder: Path) -> Subjects:
    write_slices(folder / "a", VOXELS)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name, file in zip(("../0", "/1", "b/../../2", "C:\\3"), sorted((folder / "a").iterdir()), strict=True):
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes())
        archive.writestr("__MACOSX/._0", bytes(128) + b"DICM")
        archive.writestr("read me.txt", "a study")
    yield Reading(folder / "a.zip", VOXELS.T, affine())
    assert sorted(file.name for file in folder.iterdir()) == ["a", "a.zip"]


@refused(__name__, "a.zip", "damaged or encrypted")
def a_damaged_zip(folder: Path) -> Subjects:
    path = zipped(write_slices(folder / "a", VOXELS), folder / "a.zip")
    path.write_bytes(path.read_bytes()[:-40])
    yield Reading(path, VOXELS.T)


@refused(__name__, "a.zip", "holds no DICOM file")
def a_zip_of_something_else(folder: Path) -> Subjects:
    (folder / "a").mkdir()
    (folder / "a" / "notes.txt").write_text("nothing")
    yield Reading(zipped(folder / "a", folder / "a.zip"), VOXELS.T)


@refused(__name__, "a.zip", "largest_file_gib")
def a_zip_that_unpacks_to_too_much(folder: Path) -> Subjects:
    """Also where what is too much is no part of the image."""
    write_slices(folder / "a", VOXELS)
    large = image_tags(np.zeros((300, 300), np.uint16), series="2", kinds="ORIGINAL\\PRIMARY\\LOCALIZER")
    write(folder / "a" / "999.dcm", large)
    zipped(folder / "a", folder / "a.zip")
    limits.allow(largest_file_gib=1e-4)
    try:
        yield Reading(folder / "a.zip", VOXELS.T)
    finally:
        limits.allow()


@refused(__name__, "a.zip/a/002.dcm", "unreadable DICOM")
def a_zip_with_a_damaged_slice(folder: Path) -> Subjects:
    file = write_slices(folder / "a", VOXELS) / "002.dcm"
    file.write_bytes(file.read_bytes()[:-10])
    yield Reading(zipped(folder / "a", folder / "a.zip"), VOXELS.T)


def _nothing(*_: Any) -> None:
    return None


def _as_they_come(frames: list, _: Path) -> list:
    return list(frames)


DICOM = "medseg.data.files"
without(__name__, f"{DICOM}.dicom.in_order", _as_they_come)
without(__name__, f"{DICOM}.dicom.slides", _nothing)
without(__name__, f"{DICOM}.dicom.check_mosaic_alone", _nothing)
without(__name__, f"{DICOM}.dicom_volume._check_distances", _nothing)
without(__name__, f"{DICOM}.dicom_volume.SPACING", 10.0)
without(__name__, f"{DICOM}.dicom_frames.is_mosaic", lambda _: False)
without(__name__, f"{DICOM}.dicom_frames._siemens", lambda _: (4, np.array([0, 0, 1.0])))
without(__name__, f"{DICOM}.dicom_series.LOCALISER", "scan")
without(__name__, f"{DICOM}.dicom_series.DERIVED", "scan")
without(__name__, f"{DICOM}.dicom_series.fitting", lambda every, _: [True] * len(every))
without(__name__, f"{DICOM}.dicom_header.DEFLATED", "none")
without(__name__, f"{DICOM}.dicom_header.MAGIC", b"none")
without(__name__, f"{DICOM}.dicom_header.UIDS", b"none")
without(__name__, f"{DICOM}.dicom_pixels._within", lambda values, *_: values.astype(int))
without(__name__, f"{DICOM}.dicom_pixels._decoded", _nothing)
without(__name__, f"{DICOM}.archives.check_size", _nothing)
without(__name__, f"{DICOM}.archives._place", lambda folder, name, _: folder / name)
