"""nnU-Net raw: `imagesTr/{case}_0000.nii.gz`, one file a channel, and `labelsTr/{case}.nii.gz`; or a list of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.core.errors import Problem
from medseg.data.cases.case import CHANNEL, Case
from medseg.data.cases.layouts.description import FILE, entry_of, find_described, is_described, short
from medseg.data.cases.layouts.files import existing, image_files, one_a_channel
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.files.images import ENDINGS, case_name
from medseg.data.files.pictures import is_picture


class NNUNetRaw(Layout):
    """`dataset.json` names labels as {"tumour": 1}, or {"tumour": [1, 2]} where they are regions."""

    expects = "dataset.json of nnU-Net raw, beside imagesTr and labelsTr"

    def recognises(self, root: Path) -> bool:
        return is_described(root, by_value=False)

    def find(self, root: Path) -> Found:
        return find_described(root, nnunet_cases)


def nnunet_cases(
    root: Path, description: Mapping[str, Any], channels: int, found: Found
) -> tuple[list[Case], list[Case]]:
    """(labelled, unlabelled); what is wrong is added to `found`."""
    problems = found.problems
    if isinstance(description.get("dataset"), dict):  # files listed one by one, with paths of any kind
        listed = []
        where = f"{root / FILE} dataset"
        for name, entry in description["dataset"].items():
            if (given := entry_of(root, entry, where, name, problems, found.channels)) is not None:
                images = tuple(existing(file, problems) for file in given.images)
                label = None if given.label is None else existing(given.label, problems)
                listed.append(Case(name, images, label))
        unlabelled = [case for case in listed if case.label is None]
        more = _folder(root / "imagesTs", None, "", channels, found)
        return [case for case in listed if case.label is not None], [*unlabelled, *more]
    ending = description.get("file_ending", ".nii.gz")
    if ending not in ENDINGS:
        problems.append(Problem(str(root / FILE), f"file_ending {short(ending)}", f"known: {', '.join(ENDINGS)}"))
        return [], []
    cases = _folder(root / "imagesTr", root / "labelsTr", ending, channels, found)
    return cases, _folder(root / "imagesTs", None, ending, channels, found)


def _folder(images: Path, labels: Path | None, ending: str, channels: int, found: Found) -> list[Case]:
    problems = found.problems
    groups: dict[str, dict[int, Path]] = {}
    for file in image_files(images):
        if match := CHANNEL.match(case_name(file)):
            if file.name.endswith(ending):
                groups.setdefault(match["case"], {})[int(match["channel"])] = file
        else:
            remedy = "nnU-Net names images {case}_0000, {case}_0001, ..., one file a channel"
            problems.append(Problem(str(file), "is named as no channel", remedy))
    names = set(groups)
    if labels is not None:
        names |= {case_name(file) for file in image_files(labels)}
    cases = []
    for name in sorted(names):
        files = groups.get(name, {})
        for channel in set(files) - set(range(channels)):
            problems.append(Problem(str(files[channel]), f"is one channel too many: dataset.json names {channels}"))
        wanted = (
            1 if set(files) == {0} and is_picture(files[0]) else channels
        )  # a picture holds its colours in one file
        paths = [files.get(i, images / f"{name}_{i:04d}{ending}") for i in range(wanted)]
        label = None if labels is None else existing(labels / f"{name}{ending}", problems)
        some = any(path.exists() for path in paths)
        own = one_a_channel(paths, found) if some else tuple(existing(path, problems) for path in paths)
        cases.append(Case(name, own, label))
    return cases
