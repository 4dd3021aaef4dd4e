"""Two folders, images and labels, of volumes: `images/a.nii.gz` and `labels/a.nii.gz`, perhaps a folder deeper.

An image is one file, one file a channel (`a_0000.nii.gz`, `a_0001.nii.gz`), or a folder, or a zip, with a DICOM study.
A label has its image's name, perhaps with `_mask`, `_label` or `_seg`; those of equal names belong together first. Both
folders may have the same folders inside (`images/site1/a.nii.gz`), beside files or instead of them; labels of the same
folder go before those right in the folder of labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.data.cases.case import Case, are_channels, stem
from medseg.data.cases.layouts.files import grouped, image_files
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.cases.layouts.pictures import IMAGES, LABELS, SUFFIXES
from medseg.data.files.dicom import is_study
from medseg.data.files.images import case_name
from medseg.data.files.pictures import is_picture

IMAGE_FOLDERS = (*IMAGES, "scans", "scan", "volumes", "imagesTr")
LABEL_FOLDERS = (*LABELS, "segmentations", "segmentation", "segs", "seg", "labelsTr")


class Volumes(Layout):
    """Images and labels of one name."""

    expects = "volumes in images/ (or scans/) and labels of their names in labels/ (or masks/)"

    def recognises(self, root: Path) -> bool:
        return find_folders(root) is not None

    def find(self, root: Path) -> Found:
        return find_volumes(root)


def find_folders(root: Path) -> tuple[Path, Path] | None:
    """The folders of images and labels, if there are volumes in them: in a folder, or in the only one below it."""
    if (found := _folders_in(root)) is not None:
        return found
    deeper = [_folders_in(folder) for folder in _folders_of(root)]
    pairs = [found for found in deeper if found is not None]
    return pairs[0] if len(pairs) == 1 else None


def _folders_in(root: Path) -> tuple[Path, Path] | None:
    folders = {folder.name.casefold(): folder for folder in reversed(_folders_of(root))}
    images, labels = (
        next((folders[name.casefold()] for name in names if name.casefold() in folders), None)
        for names in (IMAGE_FOLDERS, LABEL_FOLDERS)
    )
    if images is None or labels is None:
        return None
    return (images, labels) if any(not is_picture(entry) for entry in image_entries(images)) else None


def _folders_of(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def image_entries(folder: Path) -> list[Path]:
    """Files of images, and folders and zips of DICOM studies, in the folder and in those right below."""
    own = _entries(folder)
    inner = [one for one in _folders_of(folder) if one not in own]
    return [*own, *sorted(entry for one in inner for entry in _entries(one))]


def _entries(folder: Path) -> list[Path]:
    return sorted([*image_files(folder), *(entry for entry in folder.iterdir() if is_study(entry))])


def find_volumes(root: Path) -> Found:
    """The cases of two folders that `find_folders` finds."""
    folders = find_folders(root)
    if folders is None:
        raise ValueError(f"{root}: holds no folders of volumes")
    images, labels = folders
    found = Found()
    entries, masks = image_entries(images), _masks(labels)
    cases = _cases(entries, images, masks, found)
    own = _pairs(cases, images, masks)
    for case in _told_apart(cases, images):
        files = own.get(case.first, [])
        if len(files) == 1:
            found.cases.append(replace(case, label=str(files[0])))
            continue
        what = f"has no label in {labels}" if not files else f"has {len(files)} labels in {labels}"
        found.problems.append(Problem(case.first, what, f"give it one named {case.name}, or take the image out"))
    taken = {file for files in own.values() for file in files}
    for file in sorted({file for files in masks.values() for file in files} - taken):
        found.problems.append(Problem(str(file), f"has no image in {images}", "add the image, or take the label out"))
    return found


Masks = Mapping[tuple[str, str], list[Path]]
"""(folder below that of the labels, name) -> files."""


def _masks(labels: Path) -> Masks:
    found: dict[tuple[str, str], list[Path]] = {}
    for file in (file for folder in (labels, *_folders_of(labels)) for file in image_files(folder)):
        found.setdefault((_inside(file, labels), case_name(file)), []).append(file)
    return found


def _cases(entries: Sequence[Path], images: Path, masks: Masks, found: Found) -> list[Case]:
    """The images, each folder's own."""
    folders: dict[str, list[Path]] = {}
    for entry in entries:
        folders.setdefault(_inside(entry, images), []).append(entry)
    named = any(
        (place, stem(entry) + suffix) in masks
        for inside, some in folders.items()
        for entry in some
        for suffix in SUFFIXES
        for place in (inside, "")
    )
    channels = 0 if named else max((are_channels(some) for some in folders.values()), default=0)
    if channels > 1:
        found.channels = tuple(str(number) for number in range(channels))
    cases: list[Case] = []
    for some in folders.values():
        try:
            own = grouped(some, channels, found.incomplete) if channels else [Case(stem(e), (str(e),)) for e in some]
        except DataError as error:
            found.problems += error.problems
            continue
        for name in sorted(name for name, count in Counter(case.name for case in own).items() if count > 1):
            found.problems.append(Problem(str(images), f"several images are named {name!r}", "leave one of them"))
        cases += own
    return cases


def _told_apart(cases: Sequence[Case], images: Path) -> list[Case]:
    """The cases; those of one name in several folders are called by both."""
    counts = Counter((case.name, _inside(Path(case.first), images)) for case in cases)
    names = Counter(name for name, _ in counts)
    return [
        replace(case, name=f"{inside}_{case.name}") if names[case.name] > 1 and inside else case
        for case, inside in ((case, _inside(Path(case.first), images)) for case in cases)
    ]


def _pairs(cases: Sequence[Case], images: Path, masks: Masks) -> dict[str, list[Path]]:
    """First file of an image -> its labels: those of its own folder first, and of equal names before those with a word
    behind the name."""
    own: dict[str, list[Path]] = {}
    left = dict(masks)
    insides = {case.first: _inside(Path(case.first), images) for case in cases}
    for nearest in (True, False):
        for suffix in SUFFIXES:
            for case in cases:
                place = (insides[case.first] if nearest else "", case.name + suffix)
                if case.first not in own and place in left:
                    own[case.first] = left.pop(place)
    return own


def _inside(path: Path, folder: Path) -> str:
    """The folder below this one in which a path lies; "" where it lies right in it."""
    return "" if path.parent == folder else path.parent.name
