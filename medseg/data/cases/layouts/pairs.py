"""Any folder of pictures and their masks, the first of these that is there:

    train.txt val.txt [test.txt]           lines `image mask`, paths from the folder; or one name a line
    images/train labels/train images/val   a folder a split, below images and labels
    train/images train/labels val/images   or above them
    images labels                          no split: a seeded share of the cases is held out

`labels` may be called masks or annotations. A mask has its picture's name, perhaps with `_mask`, `_label` or `_gt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg.core.errors import Problem
from medseg.data.cases.layouts.picture_lists import Places, entries_of, name_of
from medseg.data.cases.layouts.pictures import IMAGES, LABELS, Pairs, PictureLayout, masks_in, pictures_in
from medseg.data.files.text import read_lines

SPLITS = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
LISTED = {"train", "val", "test", "trainval"}
UNPAIRED = "give each picture a mask of its name, or take the picture out"


class PicturePairs(PictureLayout):
    """Folders of images and labels, or lists of them."""

    expects = "pictures in images/ and their masks in labels/, perhaps in a folder a split, or train.txt and val.txt"

    def recognises(self, root: Path) -> bool:
        return bool(_list_files(root)) or any(_pair_folders(root))

    def list_pairs(self, root: Path, pairs: Pairs) -> None:
        if lists := _list_files(root):
            for file in lists:
                _read_list(root, file, pairs)
            return
        for split, images, labels in _pair_folders(root):
            masks = masks_in(labels)
            for image in pictures_in(images):
                label = masks.get(image.stem)
                if label is None and split != "test":
                    pairs.problems.append(Problem(str(image), f"has no mask in {labels}", UNPAIRED))
                pairs.add(split, image, label)


def _list_files(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    files = [file for file in sorted(root.iterdir()) if file.suffix.lower() == ".txt" and file.is_file()]
    return [file for file in files if SPLITS.get(file.stem.lower().partition("_")[0], file.stem.lower()) in LISTED]


def _read_list(root: Path, file: Path, pairs: Pairs) -> None:
    """Lines `image mask` (paths from the root; also with a leading slash), or one name that images and labels share."""
    split = SPLITS.get(file.stem.lower(), file.stem)
    folders = next(((images, labels) for kept, images, labels in _pair_folders(root) if not kept), None)
    images = {image.stem: image for image in pictures_in(folders[0])} if folders else {}
    masks = masks_in(folders[1]) if folders else {}
    places = Places(root)
    for number, line in read_lines(file):
        entries = entries_of(line, lambda whole: "/" not in whole and name_of(whole) in images)
        if len(entries) == 2:
            image, label = (places.find(entry) for entry in entries)
            pairs.add(split, image, label)
        elif len(entries) == 1 and folders:
            name = name_of(entries[0])
            missing = None if split == "test" else folders[1] / f"{name}.png"
            pairs.add(split, images.get(name, folders[0] / f"{name}.png"), masks.get(name, missing), name)
        else:
            what = f"{len(entries)} entries in a line"
            remedy = "write `image mask`; a tab or a comma between them where paths have blanks"
            pairs.problems.append(Problem(f"{file}:{number}", what, remedy))


def _pair_folders(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """(split, images, labels) of every pair of folders; split "" where there is none."""
    images, labels = _one_of(root, IMAGES), _one_of(root, LABELS)
    if images and labels:
        found = [(split, images / name, labels / name) for name, split in SPLITS.items() if (images / name).is_dir()]
        yield from found or [("", images, labels)]
        return
    for name, split in SPLITS.items():
        images, labels = _one_of(root / name, IMAGES), _one_of(root / name, LABELS)
        if images and (labels or split == "test"):
            yield split, images, labels or root / name / "labels"


def _one_of(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)
