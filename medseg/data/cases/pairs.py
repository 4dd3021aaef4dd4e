"""Folders of pictures and their masks: PASCAL VOC, Cityscapes, ADE20K, CamVid, or any of one's own, with their splits.

What makes a folder one of one's own (`pairs`), the first that is there:

    train.txt val.txt [test.txt]           lines `image mask`, paths from the folder; or one name a line
    images/train labels/train images/val   a folder a split, below images and labels
    train/images train/labels val/images   or above them
    images labels                          no split: a seeded share of the cases is held out

`labels` may be called masks or annotations. A mask has its picture's name, perhaps with `_mask`, `_label` or `_gt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import Problem
from medseg.data.cases.case import Case, by_name
from medseg.data.files.pictures import PICTURES

IMAGES = ("images", "image", "imgs", "img", "JPEGImages")
LABELS = ("labels", "label", "masks", "mask", "annotations", "annotation", "gt")
SUFFIXES = ("", "_mask", "_masks", "_label", "_labels", "_gt", "_seg")
SPLITS = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
UNPAIRED = "give each picture a mask of its name, or take the picture out"


@dataclass
class Pairs:
    """What a folder of pictures holds: split -> cases; "" is the split of a folder that has none."""

    layout: str
    root: Path
    splits: dict[str, list[Case]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, split: str, image: Path, label: Path | None, name: str | None = None) -> None:
        """One case; `label` None: without a mask. A file that is not there is a problem."""
        case = Case(name or image.stem, (str(image),), None if label is None else str(label))
        for path in (image, label):
            if path is not None and not path.is_file():
                self.problems.append(Problem(str(path), "no such file", f"{split or 'a'} case {case.name!r} names it"))
        self.splits.setdefault(split, []).append(case)


def find_layout(root: Path) -> str | None:
    """Which of the layouts of this module a folder has, or None."""
    if _voc_root(root) is not None:
        return "voc"
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return "cityscapes"
    if any((root / "images" / name).is_dir() and (root / "annotations" / name).is_dir() for name in ADE20K.values()):
        return "ade20k"
    if any(root.joinpath(f"{name}annot").is_dir() and (root / name).is_dir() for name in ("train", "val", "test")):
        return "camvid"
    return "pairs" if _list_files(root) or any(_pair_folders(root)) else None


def find_pairs(root: Path, layout: str) -> Pairs:
    """The cases of a folder by split, with every problem; none at all if the folder has another layout."""
    pairs = Pairs(layout, root)
    FINDERS[layout](root, pairs)
    _tell_splits_apart(pairs)
    for split, cases in pairs.splits.items():
        seen: dict[str, Case] = {}
        for case in cases:
            if (other := seen.setdefault(case.name, case)) is not case:
                what = f"two cases of the split {split!r} are named {case.name!r}: {other.first} too"
                pairs.problems.append(Problem(case.first, what, "give each file its own name"))
        pairs.splits[split] = by_name(cases)
    return pairs


def _tell_splits_apart(pairs: Pairs) -> None:
    """Put the split before a name that stands for different pictures in different splits: each has its own mask."""
    if len(pairs.splits) < 2:
        return
    images: dict[str, set[str]] = {}
    for cases in pairs.splits.values():
        for case in cases:
            images.setdefault(case.name, set()).add(case.first)
    for split, cases in pairs.splits.items():
        pairs.splits[split] = [
            replace(case, name=f"{split}_{case.name}") if len(images[case.name]) > 1 else case for case in cases
        ]


# --- the public data sets ------------------------------------------------------------------------------------------


def _voc_root(root: Path) -> Path | None:
    """The folder VOC2012 of a devkit, given itself or the folder around it."""
    inner = sorted(root.glob("VOC20??")) if root.is_dir() else []
    return next((one for one in (root, *inner) if (one / "ImageSets" / "Segmentation").is_dir()), None)


def _find_voc(root: Path, pairs: Pairs) -> None:
    """A list file a split; masks in SegmentationClass, those of SBD in SegmentationClassAug."""
    inner = _voc_root(root) or root
    for file in sorted((inner / "ImageSets" / "Segmentation").glob("*.txt")):
        for name in file.read_text().split():
            masks = [inner / folder / f"{name}.png" for folder in ("SegmentationClass", "SegmentationClassAug")]
            label = next((mask for mask in masks if mask.is_file()), None)
            if label is None and file.stem != "test":
                label = masks["aug" in file.stem]
            pairs.add(file.stem, inner / "JPEGImages" / f"{name}.jpg", label, name)


def _find_cityscapes(root: Path, pairs: Pairs) -> None:
    for split in ("train", "val", "test"):
        for image in sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
            name = image.stem.removesuffix("_leftImg8bit")
            label = root / "gtFine" / split / image.parent.name / f"{name}_gtFine_labelIds.png"
            pairs.add(split, image, label if split != "test" else None, name)


ADE20K = {"train": "training", "val": "validation"}


def _find_ade20k(root: Path, pairs: Pairs) -> None:
    for split, folder in ADE20K.items():
        for image in _pictures(root / "images" / folder):
            pairs.add(split, image, root / "annotations" / folder / f"{image.stem}.png")
    for image in _pictures(root / "images" / "testing"):
        pairs.add("test", image, None)


def _find_camvid(root: Path, pairs: Pairs) -> None:
    for split in ("train", "val", "test"):
        labels = root / f"{split}annot"
        masks = _masks(labels)
        for image in _pictures(root / split):
            label = masks.get(image.stem, labels / f"{image.stem}.png")
            pairs.add(split, image, label if labels.is_dir() else None)


# --- any folder ----------------------------------------------------------------------------------------------------


def _find_any(root: Path, pairs: Pairs) -> None:
    if lists := _list_files(root):
        for file in lists:
            _read_list(root, file, pairs)
        return
    for split, images, labels in _pair_folders(root):
        masks = _masks(labels)
        for image in _pictures(images):
            label = masks.get(image.stem)
            if label is None and split != "test":
                pairs.problems.append(Problem(str(image), f"has no mask in {labels}", UNPAIRED))
            pairs.add(split, image, label)


def _list_files(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(file for file in root.glob("*.txt") if SPLITS.get(file.stem.partition("_")[0], file.stem) in LISTED)


LISTED = {"train", "val", "test", "trainval"}


def _read_list(root: Path, file: Path, pairs: Pairs) -> None:
    """Lines `image mask` (paths from the root; also with a leading slash), or one name that images and labels share."""
    split = SPLITS.get(file.stem, file.stem)
    folders = next(((images, labels) for kept, images, labels in _pair_folders(root) if not kept), None)
    images = {image.stem: image for image in _pictures(folders[0])} if folders else {}
    masks = _masks(folders[1]) if folders else {}
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        entries = line.replace("\t", " ").replace(",", " ").split()
        if not entries:
            continue
        if len(entries) == 2:
            image, label = (root / entry.lstrip("/") for entry in entries)
            pairs.add(split, image, label)
        elif len(entries) == 1 and folders:
            name = Path(entries[0]).stem
            missing = None if split == "test" else folders[1] / f"{name}.png"
            pairs.add(split, images.get(name, folders[0] / f"{name}.png"), masks.get(name, missing), name)
        else:
            what = f"{len(entries)} entries in a line"
            pairs.problems.append(Problem(f"{file}:{number}", what, "write `image mask`, paths without spaces"))


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


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.rglob("*") if f.name.lower().endswith(PICTURES) and not f.name.startswith("."))


def _masks(folder: Path) -> Mapping[str, Path]:
    """Name of a picture -> its mask."""
    found: dict[str, Path] = {}
    for file in _pictures(folder):
        for suffix in reversed(SUFFIXES):
            if file.stem.endswith(suffix):
                found.setdefault(file.stem.removesuffix(suffix), file)
        found[file.stem] = file
    return found


FINDERS = {
    "voc": _find_voc,
    "cityscapes": _find_cityscapes,
    "ade20k": _find_ade20k,
    "camvid": _find_camvid,
    "pairs": _find_any,
}
