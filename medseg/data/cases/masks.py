"""Two folders of masks, a truth and a prediction, matched file by file as each data set names its cases."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.data.files.images import ENDINGS, case_name
from medseg.data.files.pictures import LOSSY

INSIDE = {"voc": "SegmentationClass", "cityscapes": "gtFine", "ade20k": "annotations"}
"""Where the labels of a data set are, given its own folder."""
CITYSCAPES = re.compile(r"(.+?_\d{6}_\d{6})(?:_.*)?")  # city, sequence, frame; the rest says what kind of file it is
MAP = re.compile(r"_(entropy|disagreement|probability_.+)$")  # what `predict` saves beside a mask
LABEL_IDS, INSTANCE_IDS = "_labelIds", "_instanceIds"


@dataclass(frozen=True)
class MaskPair:
    """One case: its label, its prediction, and Cityscapes' instanceIds where they lie beside the label."""

    case: str
    truth: Path
    prediction: Path
    instances: Path | None = None


@dataclass(frozen=True)
class Matched:
    """What two folders hold together: pairs, cases that have none, and predictions that nothing can be said about."""

    pairs: tuple[MaskPair, ...]
    problems: tuple[Problem, ...]
    without_truth: tuple[str, ...]


def match_masks(prediction: Path, truth: Path, layout: str, cases: Collection[str] | None = None) -> Matched:
    """Find the prediction of every label (of every one of `cases`, if given), below two folders.

    A case is named by its file, without ending; in Cityscapes by city, sequence and frame, and its labels end in
    `_labelIds`. A case without a prediction, or with several, is a problem; so is one of `cases` without a label.

    Raises:
        DataError: a folder is missing or holds no mask, or two labels have one name.
    """
    inner = truth / INSIDE.get(layout, ".")
    labels = find_masks(inner if inner.is_dir() else truth, layout)
    if layout == "cityscapes":
        labels = {case: [file for file in files if _is_label_ids(file)] for case, files in labels.items()}
        labels = {case: files for case, files in labels.items() if files}
        if not labels:
            raise DataError(Problem(str(truth), "no file is named *_gtFine_labelIds.png", "give the folder gtFine/val"))
    if double := [_several(case, files) for case, files in labels.items() if len(files) > 1]:
        raise DataError(double)
    masks = find_masks(prediction, layout)
    problems, pairs = [], []
    for case in sorted(labels if cases is None else set(cases)):
        found = masks.get(case, [])
        if case not in labels:
            problems.append(Problem(case, f"has no label in {truth}", "take it from the list, or add its label"))
        elif not found:
            problems.append(Problem(case, f"has no prediction in {prediction}", "predict it, or list what to score"))
        elif len(found) > 1:
            problems.append(_several(case, found))
        else:
            pairs.append(MaskPair(case, labels[case][0], found[0], _instances(labels[case][0], layout)))
    if not pairs:
        some = ", ".join(sorted(masks)[:3])
        what = f"holds none of the predictions of {truth}; it has {some}, ..."
        raise DataError(Problem(str(prediction), what, "a prediction has the name of its label"))
    return Matched(tuple(pairs), tuple(problems), tuple(sorted(set(masks) - set(labels))))


def find_masks(folder: Path, layout: str) -> Mapping[str, list[Path]]:
    """Name of a case -> its files, in a folder and below.

    Maps beside their mask (`CASE_entropy`) are no masks. Of several files, those in lossless formats count, and of
    Cityscapes' several kinds the labelIds.

    Raises:
        DataError: the folder is missing, or there is no mask in it.
    """
    if not folder.is_dir():
        raise DataError(Problem(str(folder), "no such folder", "give a folder of masks"))
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        if not file.name.lower().endswith(ENDINGS) or file.name.startswith(".") or not file.is_file():
            continue
        name = case_name(file)
        mask = MAP.sub("", name)
        if mask != name and file.with_name(mask + file.name[len(name) :]).is_file():
            continue
        if layout == "cityscapes":
            if not (match := CITYSCAPES.fullmatch(name)):
                continue
            name = match[1]
        found.setdefault(name, []).append(file)
    if not found:
        wanted = "named <city>_<sequence>_<frame>*" if layout == "cityscapes" else f"({', '.join(ENDINGS)})"
        raise DataError(Problem(str(folder), f"no mask {wanted} in it", "give a folder of masks"))
    for name, files in found.items():
        lossless = [file for file in files if not file.name.lower().endswith(LOSSY)]
        label_ids = [file for file in lossless if _is_label_ids(file)] if layout == "cityscapes" else []
        found[name] = label_ids or lossless or files
    return found


def _is_label_ids(file: Path) -> bool:
    return case_name(file).endswith(LABEL_IDS)


def _instances(label: Path, layout: str) -> Path | None:
    if layout != "cityscapes":
        return None
    beside = label.with_name(label.name.replace(LABEL_IDS, INSTANCE_IDS))
    return beside if beside.is_file() else None


def _several(case: str, files: Collection[Path]) -> Problem:
    return Problem(case, f"has several masks: {', '.join(map(str, files))}", "leave one, or give a folder further down")
