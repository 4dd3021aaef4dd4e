"""Two folders, images and labels, of volumes: `images/a.nii.gz` and `labels/a.nii.gz`.

An image is one file, one file a channel (`a_0000.nii.gz`, `a_0001.nii.gz`), or a folder, or a zip, with a DICOM study.
A label has its image's name, perhaps with `_mask`, `_label` or `_seg`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.data.cases.case import CHANNEL, stem
from medseg.data.cases.layouts.files import grouped, image_files
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.cases.layouts.pictures import IMAGES, LABELS, SUFFIXES
from medseg.data.files.dicom import is_study
from medseg.data.files.images import case_name
from medseg.data.files.pictures import is_picture


class Volumes(Layout):
    """Images and labels of one name."""

    expects = "volumes in images/ and labels of their names in labels/"

    def recognises(self, root: Path) -> bool:
        return find_folders(root) is not None

    def find(self, root: Path) -> Found:
        return find_volumes(root)


def find_folders(root: Path) -> tuple[Path, Path] | None:
    """The folders of images and labels, if there are volumes in them."""
    images = next((root / name for name in (*IMAGES, "imagesTr") if (root / name).is_dir()), None)
    labels = next((root / name for name in (*LABELS, "labelsTr") if (root / name).is_dir()), None)
    if images is None or labels is None:
        return None
    return (images, labels) if any(not is_picture(entry) for entry in image_entries(images)) else None


def image_entries(folder: Path) -> list[Path]:
    """Files of images, and folders and zips of DICOM studies."""
    return sorted([*image_files(folder), *(entry for entry in folder.iterdir() if is_study(entry))])


def find_volumes(root: Path) -> Found:
    """The cases of two folders that `find_folders` finds."""
    folders = find_folders(root)
    if folders is None:
        raise ValueError(f"{root}: holds no folders of volumes")
    images, labels = folders
    found = Found()
    entries = image_entries(images)
    numbers = [int(match["channel"]) if (match := CHANNEL.match(stem(entry))) else -1 for entry in entries]
    channels = max(numbers) + 1 if min(numbers) >= 0 else 1
    if channels > 1:
        found.channels = tuple(str(number) for number in range(channels))
    masks: dict[str, list[Path]] = {}
    for file in image_files(labels):
        masks.setdefault(case_name(file), []).append(file)
    try:
        cases = grouped(entries, channels, found.incomplete)
    except DataError as error:
        found.problems += error.problems
        cases = []
    taken: set[Path] = set()
    names = [case.name for case in cases]
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.problems.append(Problem(str(images), f"several images are named {name!r}", "leave one of them"))
    for case in cases:
        own = next((masks[case.name + end] for end in SUFFIXES if case.name + end in masks), [])
        taken.update(own)
        if len(own) == 1:
            found.cases.append(replace(case, label=str(own[0])))
            continue
        what = f"has no label in {labels}" if not own else f"has {len(own)} labels in {labels}"
        found.problems.append(Problem(case.first, what, f"give it one named {case.name}, or take the image out"))
    for file in sorted({file for files in masks.values() for file in files} - taken):
        found.problems.append(Problem(str(file), f"has no image in {images}", "add the image, or take the label out"))
    return found
