"""Where the slices of a DICOM series lie, one a file or many: as ITK and dcm2niix place them, or why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK

from medseg.data.files.images import read_image
from tests.corpus.dicom import DICOM, OBLIQUE, VOXELS, affine, by_itk, nothing
from tests.corpus.situation import Reading, Subjects, read, refused, warned, without
from tests.dicom_files import (
    ENHANCED_MR,
    IMPLICIT,
    image_tags,
    mosaic_tags,
    write,
    write_enhanced,
    write_slices,
)

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


def _as_they_come(frames: list, _: Path) -> list:
    return list(frames)


without(__name__, f"{DICOM}.dicom.in_order", _as_they_come)
without(__name__, f"{DICOM}.dicom.slides", nothing)
without(__name__, f"{DICOM}.dicom.check_mosaic_alone", nothing)
without(__name__, f"{DICOM}.dicom.volume._check_distances", nothing)
without(__name__, f"{DICOM}.dicom.volume.SPACING", 10.0)
without(__name__, f"{DICOM}.dicom.frames.is_mosaic", lambda _: False)
without(__name__, f"{DICOM}.dicom.frames._siemens", lambda _: (4, np.array([0, 0, 1.0])))
