"""Two folders of masks, a truth and a prediction, matched file by file as each data set names its cases."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.core.files import check_name, walk
from medseg.data.cases.layouts import LAYOUTS
from medseg.data.cases.layouts.layout import Layout
from medseg.data.files.images import ENDINGS, case_name
from medseg.data.files.pictures import LOSSY
from medseg.data.writers import OWN
from medseg.data.writers.bids import mask_name

Key = Callable[[str], str]
MAP = re.compile(r"_(entropy|disagreement|probability_.+)$")  # what `predict` once saved beside a mask


@dataclass(frozen=True)
class MaskPair:
    """One case: its label, its prediction, and the file that tells its objects apart, where there is one."""

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

    A case is named by its file, without ending, as far as the layout does not say otherwise (`Layout.case_of_mask`). A
    case without a prediction, or with several, is a problem; so is one of `cases` without a label.

    Args:
        layout: that of the data set, the name of one in `LAYOUTS`.

    Raises:
        DataError: a folder is missing or holds no mask, or two labels have one name.
    """
    kind: Layout = LAYOUTS.find(layout, "layout").load()()
    inner = truth / kind.labels_folder
    every = find_masks(inner if inner.is_dir() else truth, layout)
    labels = {case: [file for file in files if kind.is_label(case_name(file))] for case, files in every.items()}
    labels = {case: files for case, files in labels.items() if files}
    if not labels:
        remedy = f"give the folder {kind.labels_folder} of the data set, or one below it"
        raise DataError(Problem(str(truth), f"no file is named {kind.label_names}", remedy))
    if double := [_several(case, files) for case, files in labels.items() if len(files) > 1]:
        raise DataError(double)
    masks = _by_their_cases(find_masks(prediction, layout), labels)
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
            pairs.append(MaskPair(case, labels[case][0], found[0], kind.instances(labels[case][0])))
    if not pairs:
        some = ", ".join(sorted(masks)[:3])
        what = f"holds none of the predictions of {truth}; it has {some}, ..."
        raise DataError(Problem(str(prediction), what, "a prediction has the name of its label"))
    return Matched(tuple(pairs), tuple(problems), tuple(sorted(set(masks) - set(labels))))


def _by_their_cases(masks: Mapping[str, list[Path]], labels: Collection[str]) -> dict[str, list[Path]]:
    """The masks under the names of their labels, where BIDS names the two otherwise.

    A mask by medseg is named after its case (`sub-caseZ5F7_dseg`); else the two are of one subject, session and run, or
    of one subject and session. Where several labels, or masks, could be meant, none is.
    """
    found = dict(masks)
    keys: list[tuple[Key, Key]] = [(mask_name, str), (_run_of, _run_of), (_session_of, _session_of)]
    for of_label, of_mask in keys:
        wanted = _groups((case for case in labels if case not in found), of_label)
        there = _groups((name for name in found if name not in labels), of_mask)
        for key, cases in wanted.items():
            if key and len(cases) == len(there.get(key, [])) == 1:
                found[cases[0]] = found.pop(there[key][0])
    return found


def _groups(names: Iterable[str], key: Key) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _run_of(name: str) -> str:
    return _session_of(name, ("sub", "ses", "run"))


def _session_of(name: str, keys: Collection[str] = ("sub", "ses")) -> str:
    """What says by BIDS of whom a file is; "" of any other name."""
    return "_".join(part for part in name.split("_") if part.split("-")[0] in keys) if name.startswith("sub-") else ""


def find_masks(folder: Path, layout: str) -> Mapping[str, list[Path]]:
    """Name of a case -> its files, in a folder and below.

    What `predict` keeps in `medseg/`, and maps beside their mask (`CASE_entropy`), are no masks. Of several files,
    those in lossless formats count, and of those the layout's labels (`Layout.is_label`), if there are any.

    Raises:
        ConfigError: there is no such layout.
        DataError: the folder is missing, or there is no mask in it.
    """
    if not folder.is_dir():
        raise DataError(Problem(str(folder), "no such folder", "give a folder of masks"))
    kind: Layout = LAYOUTS.find(layout, "layout").load()()
    found: dict[str, list[Path]] = {}
    for file in sorted(walk(folder)):
        if not file.name.lower().endswith(ENDINGS) or file.name.startswith(".") or not file.is_file():
            continue
        check_name(file)
        if OWN in file.relative_to(folder).parts[:-1]:
            continue
        name = case_name(file)
        mask = MAP.sub("", name)
        if mask != name and file.with_name(mask + file.name[len(name) :]).is_file():
            continue
        if (case := kind.case_of_mask(name)) is not None:
            found.setdefault(case, []).append(file)
    if not found:
        wanted = kind.mask_names or f"({', '.join(ENDINGS)})"
        raise DataError(Problem(str(folder), f"no mask {wanted} in it", "give a folder of masks"))
    for name, files in found.items():
        lossless = [file for file in files if not file.name.lower().endswith(LOSSY)]
        found[name] = [file for file in lossless if kind.is_label(case_name(file))] or lossless or files
    return found


def _several(case: str, files: Collection[Path]) -> Problem:
    return Problem(case, f"has several masks: {', '.join(map(str, files))}", "leave one, or give a folder further down")
