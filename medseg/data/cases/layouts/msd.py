"""Medical Segmentation Decathlon, and MONAI's lists of data: `dataset.json` lists the files.

Channels are the last axis of a 4D file, or a list of files. A list `validation` holds out its cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.cases.case import Case, name_of_channels
from medseg.data.cases.layouts.description import (
    description_file,
    entries_of,
    entry_of,
    find_described,
    is_described,
)
from medseg.data.cases.layouts.files import existing, one_a_channel
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.files.images import case_name

TEST = "test"
LISTS = {"training": "train", "validation": "val", TEST: TEST}  # MONAI's, of which MSD has no validation


class Decathlon(Layout):
    """`dataset.json` names labels as {"1": "tumour"}; or any JSON file that lists cases as MONAI does."""

    expects = "dataset.json of the Medical Segmentation Decathlon, which lists the files, or a JSON file that does"

    def recognises(self, root: Path) -> bool:
        return is_described(root, by_value=True)

    def find(self, root: Path) -> Found:
        return find_described(root, msd_cases)


def msd_cases(root: Path, description: Mapping[str, Any], channels: int, found: Found) -> tuple[list[Case], list[Case]]:
    """(labelled, unlabelled); what is wrong is added to `found`."""
    problems, where = found.problems, str(description_file(root))

    def images(paths: list[Path]) -> tuple[str | None, ...]:
        if len(paths) == 1 and not _is_file(path := paths[0]):
            # nnU-Net's first version: the names of MSD, the files {case}_0000 of nnU-Net
            ending = path.name[len(case_name(path)) :]
            split = [path.with_name(f"{case_name(path)}_{i:04d}{ending}") for i in range(channels)]
            if any(map(_is_file, split)):
                return one_a_channel(split, found)
        return tuple(existing(path, problems) for path in paths)

    def listed(key: str) -> list[Case]:
        cases = []
        for number, (own, entry) in enumerate(entries_of(description, key, where, problems)):
            named, labelled = f"{key} {own or number}", key != TEST
            given = entry_of(root, entry, where, named, problems, found.channels, labelled=labelled)
            if given is not None:
                label = None if given.label is None else existing(given.label, problems)
                first = case_name(given.images[0]) if len(given.images) == 1 else name_of_channels(given.images)
                cases.append(Case(given.name or own or first, images(given.images), label))
        return cases

    lists = {split: listed(key) for key, split in LISTS.items()}
    if lists["val"] and lists["train"]:
        found.splits = {split: cases for split, cases in lists.items() if cases}
    else:  # nobody trains on a test
        lists[TEST] = [replace(case, label=None) for case in lists[TEST]]
    every = [case for cases in lists.values() for case in cases]
    return [c for c in every if c.label is not None], [c for c in every if c.label is None]


def _is_file(path: Path) -> bool:
    """Whether there is a file; also of a path that can be none."""
    try:
        return path.is_file()
    except OSError:
        return False
