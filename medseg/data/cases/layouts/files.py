"""What the layouts share: a case as a dict, files of images, channels that are files of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem
from medseg.core.labels import Labels
from medseg.data.files.images import ENDINGS, case_name
from medseg.data.files.pictures import is_picture

Case = dict[str, Any]
CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")  # nnU-Net: {case}_0000.nii.gz is channel 0


@dataclass
class Found:
    """What a layout finds.

    Args:
        cases: with a label; `unlabelled`: without.
        channels, labels: empty where the data set does not say what its channels and label values mean.
        patients: case -> patient, where the data set says so.
    """

    cases: list[Case] = field(default_factory=list)
    unlabelled: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    channels: tuple[str, ...] = ()
    labels: Labels = field(default_factory=lambda: Labels({}))
    patients: Mapping[str, str] = field(default_factory=dict)


def stem(path: Path) -> str:
    """The name of a file without its ending, or of a folder (a DICOM series) as it is."""
    return path.name if path.is_dir() else case_name(path)


def case_of(path: Path) -> str:
    """The case that a file, or a folder, belongs to: its name without the number of a channel."""
    name = stem(path)
    match = CHANNEL.match(name)
    return match["case"] if match else name


def image_files(folder: Path) -> list[Path]:
    """The images in a folder; none where there is no folder."""
    if not folder.is_dir():
        return []
    # names that start with a dot are not images: macOS leaves ._case.nii.gz beside every file of an archive
    return sorted(f for f in folder.iterdir() if f.name.lower().endswith(ENDINGS) and not f.name.startswith("."))


def existing(path: Path, problems: list[Problem]) -> str:
    """The absolute path; a problem is added where nothing is there."""
    if not path.exists():
        problems.append(Problem(str(path), "no such file", "add it, or take the case out"))
    return str(path.resolve())


def one_or_list(paths: list[str]) -> str | list[str]:
    """A case's image: one file, or one a channel."""
    return paths[0] if len(paths) == 1 else paths


def by_name(cases: Iterable[Case]) -> list[Case]:
    """The cases in the order of their names."""
    return sorted(cases, key=lambda case: str(case["case"]))


def grouped(files: Iterable[Path], channels: int) -> list[Case]:
    """Cases of a folder without a description: a case is one file, or the files `{case}_0000`, `{case}_0001`, ...

    Raises:
        DataError: a case without all its channels.
    """
    files = list(files)
    if channels == 1 and any(not CHANNEL.match(stem(file)) for file in files):
        return [{"case": stem(file), "image": str(file)} for file in files]
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(case_of(file), []).append(file)
    problems: list[Problem] = []
    cases: list[Case] = []
    for name, members in sorted(groups.items()):
        first = CHANNEL.match(stem(members[0]))
        in_one = first is None or (channels > 1 and is_picture(members[0]) and int(first["channel"]) == 0)
        alone = len(members) == 1 and in_one
        expected = [f"{name}_{i:04d}" for i in range(channels)]
        if alone:
            cases.append({"case": name, "image": str(members[0])})
        elif [stem(file) for file in sorted(members)] == expected:
            cases.append({"case": name, "image": one_or_list([str(file) for file in sorted(members)])})
        else:
            got = ", ".join(file.name for file in sorted(members))
            remedy = f"expected {', '.join(expected)}, or one file with {channels} channel(s)"
            problems.append(Problem(str(members[0].parent), f"case {name!r} has {got}", remedy))
    if problems:
        raise DataError(problems)
    return cases
