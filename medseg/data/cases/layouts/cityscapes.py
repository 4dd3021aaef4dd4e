"""Cityscapes: `leftImg8bit/val/CITY/*_leftImg8bit.png` and `gtFine/val/CITY/*_gtFine_labelIds.png`."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.data.cases.layouts.pictures import Pairs, PictureLayout

FRAME = re.compile(r"(.+?_\d{6}_\d{6})(?:_.*)?")  # city, sequence, frame; the rest says what kind of file it is
LABEL_IDS, INSTANCE_IDS = "_labelIds", "_instanceIds"


class Cityscapes(PictureLayout):
    """A case is named by city, sequence and frame; beside a label lie its instanceIds, its colours, its polygons."""

    expects = "leftImg8bit and gtFine of Cityscapes"
    labels_folder = "gtFine"
    label_names = "*_gtFine_labelIds.png"
    mask_names = "named <city>_<sequence>_<frame>*"

    def recognises(self, root: Path) -> bool:
        return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()

    def list_pairs(self, root: Path, pairs: Pairs) -> None:
        for split in ("train", "val", "test"):
            for image in sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
                name = image.stem.removesuffix("_leftImg8bit")
                label = root / "gtFine" / split / image.parent.name / f"{name}_gtFine_labelIds.png"
                pairs.add(split, image, label if split != "test" else None, name)

    def case_of_mask(self, name: str) -> str | None:
        match = FRAME.fullmatch(name)
        return match[1] if match else None

    def is_label(self, name: str) -> bool:
        return name.endswith(LABEL_IDS)

    def instances(self, label: Path) -> Path | None:
        return instances_beside(label)


def instances_beside(label: Path) -> Path | None:
    """The instanceIds of a file of labelIds, where they lie beside it."""
    path = label.with_name(label.name.replace(LABEL_IDS, INSTANCE_IDS))
    return path if path != label and path.is_file() else None
