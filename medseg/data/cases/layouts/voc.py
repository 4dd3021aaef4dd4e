"""PASCAL VOC: a list file a split, masks in SegmentationClass, those of SBD in SegmentationClassAug."""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import Problem
from medseg.data.cases.layouts.picture_lists import Places, entries_of, name_of
from medseg.data.cases.layouts.pictures import Pairs, PictureLayout
from medseg.data.files.pictures import PICTURES
from medseg.data.files.text import read_lines

JPEG_FIRST = (".jpg", *PICTURES)
LINE = "write a name, or the paths of a picture and its mask"


class VOC(PictureLayout):
    """The folder VOC2012 of a devkit, or the folder around it."""

    expects = "ImageSets/Segmentation, JPEGImages and SegmentationClass of PASCAL VOC"
    labels_folder = "SegmentationClass"

    def recognises(self, root: Path) -> bool:
        return _inner(root) is not None

    def list_pairs(self, root: Path, pairs: Pairs) -> None:
        """Lines are names, or paths of picture and mask, as DeepLab's list of SBD's masks has them."""
        inner = _inner(root) or root
        places = Places(inner, inner.parent)
        for file in sorted((inner / "ImageSets" / "Segmentation").glob("*.txt")):
            for number, line in read_lines(file):
                entries = entries_of(line, lambda name: places.named(inner / "JPEGImages", name) is not None)
                if len(entries) == 1:
                    self._add(inner, places, file.stem, name_of(entries[0]), pairs)
                elif len(entries) == 2:
                    image, label = (places.find(entry) for entry in entries)
                    pairs.add(file.stem, image, label, name_of(entries[0]))
                else:
                    pairs.problems.append(Problem(f"{file}:{number}", f"{len(entries)} entries in a line", LINE))

    def _add(self, inner: Path, places: Places, split: str, name: str, pairs: Pairs) -> None:
        folders = [inner / folder for folder in ("SegmentationClass", "SegmentationClassAug")]
        label = next((mask for folder in folders if (mask := places.named(folder, name, (".png",)))), None)
        if label is None and split != "test":
            label = folders["aug" in split] / f"{name}.png"
        image = places.named(inner / "JPEGImages", name, JPEG_FIRST) or inner / "JPEGImages" / f"{name}.jpg"
        pairs.add(split, image, label, name)


def _inner(root: Path) -> Path | None:
    """The folder VOC2012 of a devkit, given itself or the folder around it."""
    years = sorted(root.glob("VOC20??")) if root.is_dir() else []
    return next((one for one in (root, *years) if (one / "ImageSets" / "Segmentation").is_dir()), None)
