"""PASCAL VOC: a list file a split, masks in SegmentationClass, those of SBD in SegmentationClassAug."""

from __future__ import annotations

from pathlib import Path

from medseg.core.files import readable
from medseg.data.cases.layouts.pictures import Pairs, PictureLayout


class VOC(PictureLayout):
    """The folder VOC2012 of a devkit, or the folder around it."""

    expects = "ImageSets/Segmentation, JPEGImages and SegmentationClass of PASCAL VOC"
    labels_folder = "SegmentationClass"

    def recognises(self, root: Path) -> bool:
        return _inner(root) is not None

    def list_pairs(self, root: Path, pairs: Pairs) -> None:
        inner = _inner(root) or root
        for file in sorted((inner / "ImageSets" / "Segmentation").glob("*.txt")):
            for name in readable(file).read_text().split():
                masks = [inner / folder / f"{name}.png" for folder in ("SegmentationClass", "SegmentationClassAug")]
                label = next((mask for mask in masks if mask.is_file()), None)
                if label is None and file.stem != "test":
                    label = masks["aug" in file.stem]
                pairs.add(file.stem, inner / "JPEGImages" / f"{name}.jpg", label, name)


def _inner(root: Path) -> Path | None:
    """The folder VOC2012 of a devkit, given itself or the folder around it."""
    years = sorted(root.glob("VOC20??")) if root.is_dir() else []
    return next((one for one in (root, *years) if (one / "ImageSets" / "Segmentation").is_dir()), None)
