"""Medical Segmentation Decathlon: `dataset.json` lists the files; channels are the last axis of a 4D file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.core.errors import Problem
from medseg.data.cases.case import Case
from medseg.data.cases.layouts.description import find_described, is_described
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
    problems = found.problems

    def images(entry: str) -> tuple[str | None, ...]:
        path = root / entry
        if not path.is_file():  # nnU-Net's first version: the names of MSD, the files {case}_0000 of nnU-Net
            ending = path.name[len(case_name(path)) :]
            split = [path.with_name(f"{case_name(path)}_{i:04d}{ending}") for i in range(channels)]
            if any(file.is_file() for file in split):
                return one_a_channel(split, found)
        return (existing(path, problems),)

    cases, unlabelled = [], []
    for entry in description.get("training", []):
        if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
            problems.append(Problem(str(root / "dataset.json"), f"training: {entry!r}", "expected image and label"))
            continue
        label = existing(root / entry["label"], problems)
        cases.append(Case(case_name(entry["image"]), images(entry["image"]), label))
    for entry in description.get("test", []):
        file = entry["image"] if isinstance(entry, dict) else entry
        unlabelled.append(Case(case_name(file), images(file)))
    return cases, unlabelled
