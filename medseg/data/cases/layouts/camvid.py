"""CamVid as SegNet has it: `train` and `trainannot`, `val` and `valannot`, `test` and `testannot`."""

from __future__ import annotations

from pathlib import Path

from medseg.data.cases.layouts.pictures import Pairs, PictureLayout, masks_in, pictures_in

SPLITS = ("train", "val", "test")


class CamVid(PictureLayout):
    """A folder a split, and one with its masks."""

    expects = "train and trainannot of CamVid"

    def recognises(self, root: Path) -> bool:
        return any((root / f"{name}annot").is_dir() and (root / name).is_dir() for name in SPLITS)

    def list_pairs(self, root: Path, pairs: Pairs) -> None:
        for split in SPLITS:
            labels = root / f"{split}annot"
            masks = masks_in(labels)
            for image in pictures_in(root / split):
                label = masks.get(image.stem, labels / f"{image.stem}.png")
                pairs.add(split, image, label if labels.is_dir() else None)
