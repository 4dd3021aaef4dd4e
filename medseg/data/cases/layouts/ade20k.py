"""ADE20K as the scene parsing challenge of 2016 has it: `images/training`, `annotations/training`, and validation."""

from __future__ import annotations

from pathlib import Path

from medseg.data.cases.layouts.pictures import Pairs, PictureLayout, pictures_in

FOLDERS = {"train": "training", "val": "validation"}


class ADE20K(PictureLayout):
    """The folder ADEChallengeData2016."""

    expects = "images/training and annotations/training of ADE20K"
    labels_folder = "annotations"

    def recognises(self, root: Path) -> bool:
        images, labels = root / "images", root / "annotations"
        return any((images / name).is_dir() and (labels / name).is_dir() for name in FOLDERS.values())

    def list_pairs(self, root: Path, pairs: Pairs) -> None:
        for split, folder in FOLDERS.items():
            for image in pictures_in(root / "images" / folder):
                pairs.add(split, image, root / "annotations" / folder / f"{image.stem}.png")
        for image in pictures_in(root / "images" / "testing"):
            pairs.add("test", image, None)
