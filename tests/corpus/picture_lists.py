"""Lists of pictures as editors, spreadsheets, shells and other tools write them: the same cases of each."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from medseg.core.errors import DataError
from medseg.data.cases.dataset import find_dataset, read_dataset
from medseg.workflows.score import read_list
from tests.corpus.situation import Subjects, read, refused, without

NAMES = [f"c{number:02d}" for number in range(6)]
SPLITS = {"train": range(4), "val": range(4, 6)}


def picture(path: Path, seed: int = 0, colours: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (4, 6, 3) if colours else (4, 6)
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 3, shape, dtype=np.uint8)).save(path)
    return path


def pairs(root: Path, names: list[str] = NAMES, ending: str = ".png") -> Path:
    for number, name in enumerate(names):
        picture(root / "images" / f"{name}{ending}", number)
        picture(root / "masks" / f"{name}.png", number, colours=False)
    return root


def voc(root: Path, ending: str = ".jpg", masks: str = "SegmentationClass", mask_ending: str = ".png") -> Path:
    for number, name in enumerate(NAMES):
        picture(root / "VOC2012/JPEGImages" / f"{name}{ending}", number)
        picture(root / "VOC2012" / masks / f"{name}{mask_ending}", number, colours=False)
    (root / "VOC2012/ImageSets/Segmentation").mkdir(parents=True)
    return root


def write(
    folder: Path, line: Callable[[int], str], coding: str = "utf-8", end: str = "\n", names: tuple[str, str] = ()
) -> None:
    for name, numbers in zip(names or SPLITS, SPLITS.values(), strict=True):
        (folder / f"{name}.txt").write_bytes("".join(line(number) + end for number in numbers).encode(coding))


def lists_of(root: Path) -> Path:
    return root / "VOC2012/ImageSets/Segmentation"


def holds(root: Path, names: list[str] = NAMES, image: str = "images", masks: str = "masks") -> Callable[[], None]:
    """Every case is in its split, with its own picture and mask."""

    def looked_at() -> None:
        dataset, problems = find_dataset(root)
        if problems:
            raise DataError(problems)
        for split, numbers in SPLITS.items():
            cases = dataset.splits[split]
            assert [case.name for case in cases] == [names[number] for number in numbers], cases
            for case, number in zip(cases, numbers, strict=True):
                assert Path(case.first).name.rpartition(".")[0] == Path(case.label or "").stem == names[number]
                assert image in case.first
                assert masks in str(case.label)
                assert all(Path(file).is_file() for file in case.files)

    return looked_at


def in_voc(root: Path, masks: str = "SegmentationClass") -> Callable[[], None]:
    return holds(root, image="JPEGImages", masks=masks)


@read(__name__)
def one_name_a_line(folder: Path) -> Subjects:
    for number, coding in enumerate(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")):
        for end in ("\n", "\r\n", "\r", " \n\n"):
            root = pairs(folder / f"{number}{end!r}".replace("\\", ""))
            write(root, NAMES.__getitem__, coding, end)
            yield holds(root)


@read(__name__)
def utf_16_with_a_mark_of_either_order(folder: Path) -> Subjects:
    for coding in ("utf-16-le", "utf-16-be"):
        root = pairs(folder / coding)
        write(root, NAMES.__getitem__, coding)
        for split in SPLITS:
            file = root / f"{split}.txt"
            file.write_bytes("\ufeff".encode(coding) + file.read_bytes())
        yield holds(root)


@read(__name__)
def names_with_dots(folder: Path) -> Subjects:
    names = [f"frame.v1.{number:02d}" for number in range(6)]
    for number, line in enumerate(
        (lambda i: names[i], lambda i: f"{names[i]}.png", lambda i: f"images/{names[i]}.PNG")
    ):
        root = pairs(folder / str(number), names)
        write(root, line)
        yield holds(root, names)


@read(__name__)
def names_with_blanks_and_letters(folder: Path) -> Subjects:
    names = [f"Über sicht {number}, neu" for number in range(6)]
    for number, coding in enumerate(("utf-8", "utf-8-sig", "utf-16")):
        root = pairs(folder / str(number), names)
        write(root, names.__getitem__, coding)
        yield holds(root, names)


@read(__name__)
def paths_with_blanks(folder: Path) -> Subjects:
    names = [f"case {number}" for number in range(6)]
    root = pairs(folder / "set", names)
    write(root, lambda i: f"images/{names[i]}.png\tmasks/{names[i]}.png")
    yield holds(root, names)


@read(__name__)
def two_columns(folder: Path) -> Subjects:
    for number, between in enumerate((" ", "\t", ",", ", ", ";", "   ")):
        root = pairs(folder / str(number))
        write(root, lambda i, between=between: f"images/{NAMES[i]}.png{between}masks/{NAMES[i]}.png")
        yield holds(root)


@read(__name__)
def paths_with_a_leading_slash(folder: Path) -> Subjects:
    root = pairs(folder / "set")
    write(root, lambda i: f"/images/{NAMES[i]}.png /masks/{NAMES[i]}.png", "utf-8-sig", "\r\n")
    yield holds(root)


@read(__name__)
def absolute_paths(folder: Path) -> Subjects:
    """Of the folder itself, and of another one."""
    root = pairs(folder / "set")
    write(root, lambda i: f"{root}/images/{NAMES[i]}.png {root}/masks/{NAMES[i]}.png")
    yield holds(root)
    write(
        pairs(folder / "elsewhere") and folder,
        lambda i: f"{folder}/elsewhere/images/{NAMES[i]}.png {folder}/elsewhere/masks/{NAMES[i]}.png",
    )
    yield holds(folder, image="elsewhere")


@read(__name__)
def slashes_of_windows(folder: Path) -> Subjects:
    root = pairs(folder / "set")
    write(root, lambda i: f"images\\{NAMES[i]}.png\tmasks\\{NAMES[i]}.png", "utf-16", "\r\n")
    yield holds(root)


@read(__name__)
def endings_in_other_letters(folder: Path) -> Subjects:
    for number, ending in enumerate((".PNG", ".Png", ".TIF", ".JPG", ".JPEG", ".WebP")):
        root = pairs(folder / f"{number}a", ending=ending)
        write(root, NAMES.__getitem__)
        yield holds(root)
        root = pairs(folder / f"{number}b", ending=ending)
        write(root, lambda i, ending=ending: f"images/{NAMES[i]}{ending.lower()} masks/{NAMES[i]}.PNG")
        yield holds(root)


@read(__name__)
def lists_named_in_capitals(folder: Path) -> Subjects:
    for number, names in enumerate((("Train", "Val"), ("TRAINING", "VALIDATION"), ("train", "valid"))):
        root = pairs(folder / str(number))
        write(root, NAMES.__getitem__, names=names)
        yield holds(root)


@read(__name__)
def voc_of_names(folder: Path) -> Subjects:
    for number, (coding, end) in enumerate((("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\r\n"))):
        root = voc(folder / str(number))
        write(lists_of(root), NAMES.__getitem__, coding, end)
        yield in_voc(root)
        yield in_voc(root / "VOC2012")


@read(__name__)
def voc_of_two_columns(folder: Path) -> Subjects:
    """DeepLab's train_aug, with and without a leading slash, from the devkit or from the year."""
    for number, begin in enumerate(("/", "", "VOC2012/", "/VOC2012/")):
        root = voc(folder / str(number), masks="SegmentationClassAug")
        write(
            lists_of(root),
            lambda i, begin=begin: f"{begin}JPEGImages/{NAMES[i]}.jpg {begin}SegmentationClassAug/{NAMES[i]}.png",
        )
        yield in_voc(root, "SegmentationClassAug")


@read(__name__)
def voc_with_other_endings(folder: Path) -> Subjects:
    for number, (ending, mask) in enumerate(((".JPG", ".png"), (".jpeg", ".PNG"), (".png", ".png"))):
        root = voc(folder / str(number), ending, mask_ending=mask)
        write(lists_of(root), NAMES.__getitem__)
        yield in_voc(root)
    root = voc(folder / "named", ".JPG")
    write(lists_of(root), lambda i: f"{NAMES[i]}.jpg")
    yield in_voc(root)


@refused(__name__, "train.txt:2", "3 entries")
def voc_with_three_columns(folder: Path) -> Subjects:
    root = voc(folder)
    write(lists_of(root), lambda i: NAMES[i] if i != 1 else "a b c")
    yield lambda: read_dataset(root)


@refused(__name__, "val.txt:1", "3 entries", "tab")
def pairs_with_three_columns(folder: Path) -> Subjects:
    root = pairs(folder)
    write(root, lambda i: NAMES[i] if i != 4 else "a b c")
    yield lambda: read_dataset(root)


@refused(__name__, "/gone/c00.png", "no such file")
def absolute_paths_of_another_machine(folder: Path) -> Subjects:
    root = pairs(folder)
    write(root, lambda i: f"/gone/{NAMES[i]}.png masks/{NAMES[i]}.png")
    yield lambda: read_dataset(root)


@refused(__name__, "images/frame.v1.png", "no such file")
def a_name_that_is_not_there(folder: Path) -> Subjects:
    root = pairs(folder)
    write(root, lambda i: NAMES[i] if i else "frame.v1")
    yield lambda: read_dataset(root)


@refused(__name__, "train.txt", "UTF-8 or UTF-16")
def a_list_in_latin_1(folder: Path) -> Subjects:
    root = pairs(folder)
    write(root, lambda i: f"Übersicht {i}", "latin-1")
    yield lambda: read_dataset(root)


@read(__name__)
def tables_of_cases(folder: Path) -> Subjects:
    """What a spreadsheet saves as CSV in UTF-8 and as text in Unicode."""
    for number, (coding, end) in enumerate((("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\r\n"))):
        root = pairs(folder / str(number))
        rows = [f"{name}\timages/{name}.png\tmasks/{name}.png" for name in NAMES]
        (root / "list.csv").write_bytes(end.join(["case\timage\tlabel", *rows]).encode(coding))

        def looked_at(path: Path = root / "list.csv") -> None:
            assert [case.name for case in read_dataset(path).cases] == NAMES

        yield looked_at


def scored(path: Path, content: bytes, names: list[str]) -> Callable[[], None]:
    path.write_bytes(content)

    def looked_at() -> None:
        assert read_list(path) == names

    return looked_at


@read(__name__)
def lists_of_what_is_scored(folder: Path) -> Subjects:
    names = ["frame.v1.00", "b", "c"]
    for number, coding in enumerate(("utf-8", "utf-8-sig", "utf-16")):
        yield scored(folder / f"{number}.txt", "frame.v1.00\r\nx/b.PNG\r\n\r\nc.nii.gz\r\n".encode(coding), names)
    yield scored(folder / "columns.txt", b"left/a b.png\tright/a b.png\nc d\n", ["a b", "c"])


without(__name__, "medseg.data.files.text.MARKS", ())
without(__name__, "medseg.data.files.text.LINE_ENDS", re.compile("\n"))
without(__name__, "medseg.data.cases.layouts.picture_lists.PICTURES", ())
without(__name__, "medseg.data.cases.layouts.pairs.entries_of", lambda line, _: line.split())
without(__name__, "medseg.data.cases.layouts.voc.entries_of", lambda line, _: [line])
without(__name__, "medseg.data.cases.layouts.pairs.name_of", lambda entry: Path(entry).stem)
without(__name__, "medseg.data.cases.layouts.picture_lists.Places.find", lambda self, entry: self.folders[0] / entry)
without(__name__, "medseg.workflows.score.case_name", lambda entry: Path(entry).stem)
