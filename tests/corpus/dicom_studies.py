"""Which series of a DICOM study is the image, in folders and in zips."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medseg.data.cases.dataset import list_inputs
from medseg.data.files.images import read_image
from medseg.data.files.reading import ReadingRules, reading
from tests.corpus.dicom import DICOM, VOXELS, affine, nothing
from tests.corpus.situation import Reading, Subjects, read, refused, warned, without
from tests.dicom_files import (
    MR,
    REPORT,
    SECONDARY,
    image_tags,
    write,
    write_slices,
)


def study_of(root: Path, scans: int = 2) -> Path:
    """A data set whose images are DICOM folders in folders, all different."""
    for number in range(scans):
        volume = VOXELS + number
        write_slices(root / "images" / f"c{number}" / "scan", volume, sop_class=MR, modality="MR")
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
    with reading(ReadingRules(**asked)):
        yield


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


# --- a series of which some slices are called derived ---------------------------------------------------------------

DERIVED = "DERIVED\\PRIMARY\\AXIAL"


def part_of(folder: Path, slices: Sequence[int], kinds: str = "ORIGINAL\\PRIMARY\\AXIAL", **options: Any) -> None:
    """These slices of the volume, in files of their numbers."""
    for at in slices:
        tags = image_tags(VOXELS[at], position=(0, 0, 2 * at), kinds=kinds, number=at + 1, **options)
        write(folder / f"{kinds[0]}{at:03}.dcm", tags)


@read(__name__)
def slices_called_derived_that_go_on_or_lie_between(folder: Path) -> Subjects:
    for number, derived in enumerate(([2, 3], [3], [0, 2], [1])):
        part_of(folder / f"a{number}", [at for at in range(len(VOXELS)) if at not in derived])
        part_of(folder / f"a{number}", derived, DERIVED)
        yield Reading(folder / f"a{number}", VOXELS.T, affine())
        yield Reading(zipped(folder / f"a{number}", folder / f"a{number}.zip"), VOXELS.T, affine())


@refused(__name__, "a slice is missing")
def a_slice_is_missing_between_the_original_and_the_derived(folder: Path) -> Subjects:
    part_of(folder / "a", [0, 1])
    part_of(folder / "a", [3], DERIVED)
    yield Reading(folder / "a", VOXELS.T)


@warned(__name__, "derived (D000.dcm, ...)", "derived (mpr.dcm)", "derived (small.dcm)")
def derived_images_of_the_same_series_that_are_no_part_of_it(folder: Path) -> Subjects:
    """Computed from slices where they lie; in another plane; with other pixels."""
    root = study_of(folder / "set", scans=3) / "images"
    for number in range(3):
        shutil.rmtree(root / f"c{number}")
        part_of(root / f"c{number}", range(len(VOXELS)), sop_class=MR, modality="MR", more={0x00281052: ("DS", number)})
    part_of(root / "c0", range(len(VOXELS)), DERIVED, modality="MR")
    about: dict[str, Any] = {"kinds": DERIVED, "number": 99, "modality": "MR", "position": (0, 0, 2 * len(VOXELS))}
    write(root / "c1" / "mpr.dcm", image_tags(VOXELS[0], plane=(0, 1, 0, 0, 0, -1), **about))
    write(root / "c2" / "small.dcm", image_tags(VOXELS[0, :2, :2], **about))
    yield folder / "set"
    for number in range(3):
        yield Reading(root / f"c{number}", VOXELS.T + number, affine())


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
    with reading(ReadingRules(largest_file_gib=1e-4)):
        yield Reading(folder / "a.zip", VOXELS.T)


@refused(__name__, "a.zip/a/002.dcm", "unreadable DICOM")
def a_zip_with_a_damaged_slice(folder: Path) -> Subjects:
    file = write_slices(folder / "a", VOXELS) / "002.dcm"
    file.write_bytes(file.read_bytes()[:-10])
    yield Reading(zipped(folder / "a", folder / "a.zip"), VOXELS.T)


without(__name__, f"{DICOM}.dicom.parts._are_one_volume", lambda *_: False)
without(__name__, f"{DICOM}.dicom.parts._fits", lambda *_: True)
without(__name__, f"{DICOM}.dicom.parts.ELSEWHERE", -1.0)
without(__name__, f"{DICOM}.dicom.series.LOCALISER", "scan")
without(__name__, f"{DICOM}.dicom.series.DERIVED", "scan")
without(__name__, f"{DICOM}.dicom.series.fitting", lambda every, _: [True] * len(every))
without(__name__, f"{DICOM}.archives.check_size", nothing)
without(__name__, f"{DICOM}.archives._place", lambda folder, name, _: folder / name)
