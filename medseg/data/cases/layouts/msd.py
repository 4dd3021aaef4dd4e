"""Medical Segmentation Decathlon: `dataset.json` lists the files; channels are the last axis of a 4D file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.data.cases.case import Case
from medseg.data.cases.layouts.description import (
    FILE,
    entries_of,
    find_described,
    is_described,
    labelled_files,
    paths_in,
)
from medseg.data.cases.layouts.files import existing, one_a_channel
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.files.images import case_name


class Decathlon(Layout):
    """`dataset.json` names labels as {"1": "tumour"}."""

    expects = "dataset.json of the Medical Segmentation Decathlon, which lists the files"

    def recognises(self, root: Path) -> bool:
        return is_described(root, by_value=True)

    def find(self, root: Path) -> Found:
        return find_described(root, msd_cases)


def msd_cases(root: Path, description: Mapping[str, Any], channels: int, found: Found) -> tuple[list[Case], list[Case]]:
    """(labelled, unlabelled); what is wrong is added to `found`."""
    problems, where = found.problems, str(root / FILE)

    def images(paths: list[Path]) -> tuple[str | None, ...]:
        if len(paths) == 1 and not _is_file(path := paths[0]):
            # nnU-Net's first version: the names of MSD, the files {case}_0000 of nnU-Net
            ending = path.name[len(case_name(path)) :]
            split = [path.with_name(f"{case_name(path)}_{i:04d}{ending}") for i in range(channels)]
            if any(map(_is_file, split)):
                return one_a_channel(split, found)
        return tuple(existing(path, problems) for path in paths)

    cases, unlabelled = [], []
    for entry in entries_of(description, "training", where, problems):
        if (given := labelled_files(root, entry, "image", where, "training", problems)) is not None:
            files, label = given
            cases.append(Case(case_name(files[0]), images(files), existing(label, problems)))
    for entry in entries_of(description, "test", where, problems):
        files = paths_in(root, entry.get("image") if isinstance(entry, dict) else entry, f"{where} test", problems)
        if files:
            unlabelled.append(Case(case_name(files[0]), images(files)))
    return cases, unlabelled


def _is_file(path: Path) -> bool:
    """Whether there is a file; also of a path that can be none."""
    try:
        return path.is_file()
    except OSError:
        return False
