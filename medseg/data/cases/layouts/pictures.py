"""What the layouts of pictures share: pictures paired with their masks, by official splits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import Problem
from medseg.core.files import walk
from medseg.data.cases.case import Case, by_name, name_in_split
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.files.pictures import PICTURES

IMAGES = ("images", "image", "imgs", "img", "JPEGImages")
LABELS = ("labels", "label", "masks", "mask", "annotations", "annotation", "gt")
SUFFIXES = ("", "_mask", "_masks", "_label", "_labels", "_gt", "_seg")
COLOURS = ("red", "green", "blue")


@dataclass
class Pairs:
    """What a folder of pictures holds: split -> cases; "" is the split of a folder that has none."""

    splits: dict[str, list[Case]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, split: str, image: Path, label: Path | None, name: str | None = None) -> None:
        """One case; `label` None: without a mask. A file that is not there is a problem."""
        case = Case(name or image.stem, (str(image),), None if label is None else str(label))
        for path in (image, label):
            if path is not None and not path.is_file():
                self.problems.append(Problem(str(path), "no such file", f"{split or 'a'} case {case.name!r} names it"))
        self.splits.setdefault(split, []).append(case)


class PictureLayout(Layout):
    """Folders of pictures and their masks, perhaps divided into splits."""

    natural = True

    @abstractmethod
    def list_pairs(self, root: Path, pairs: Pairs) -> None:
        """Add every picture to `pairs`, and what is wrong."""

    def find(self, root: Path) -> Found:
        pairs = Pairs()
        self.list_pairs(root, pairs)
        _tell_splits_apart(pairs)
        for split, cases in pairs.splits.items():
            seen: dict[str, Case] = {}
            for case in cases:
                if (other := seen.setdefault(case.name, case)) is not case:
                    what = f"two cases of the split {split!r} are named {case.name!r}: {other.first} too"
                    pairs.problems.append(Problem(case.first, what, "give each file its own name"))
            pairs.splits[split] = by_name(cases)
        every = list({case.first: case for cases in pairs.splits.values() for case in cases}.values())
        if not every and not pairs.problems:
            pairs.problems.append(Problem(str(root), "holds no picture", f"expected {self.expects}"))
        return Found(
            cases=[case for case in every if case.label is not None],
            unlabelled=[case for case in every if case.label is None],
            problems=pairs.problems,
            channels=COLOURS,
            splits={name: cases for name, cases in pairs.splits.items() if name},
        )


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
            replace(case, name=name_in_split(case.name, split)) if len(images[case.name]) > 1 else case
            for case in cases
        ]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and below; none where there is no folder."""
    if not folder.is_dir():
        return []
    files = (file for file in walk(folder) if file.name.lower().endswith(PICTURES) and not file.name.startswith("."))
    return sorted(file for file in files if not file.is_dir())


def masks_in(folder: Path) -> Mapping[str, Path]:
    """Name of a picture -> its mask, which has that name, perhaps with one of `SUFFIXES`."""
    found: dict[str, Path] = {}
    for file in pictures_in(folder):
        for suffix in reversed(SUFFIXES):
            if file.stem.endswith(suffix):
                found.setdefault(file.stem.removesuffix(suffix), file)
        found[file.stem] = file
    return found
