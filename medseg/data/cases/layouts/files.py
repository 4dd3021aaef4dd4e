"""What the layouts share: files of images, channels that are files of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.data.cases.case import CHANNEL, Case, case_of, stem
from medseg.data.files.images import ENDINGS
from medseg.data.files.pictures import is_picture


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


def grouped(files: Iterable[Path], channels: int) -> list[Case]:
    """Cases of a folder without a description: a case is one file, or the files `{case}_0000`, `{case}_0001`, ...

    Raises:
        DataError: a case without all its channels.
    """
    files = list(files)
    if channels == 1 and any(not CHANNEL.match(stem(file)) for file in files):
        return [Case(stem(file), (str(file),)) for file in files]
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
            cases.append(Case(name, (str(members[0]),)))
        elif [stem(file) for file in sorted(members)] == expected:
            cases.append(Case(name, tuple(str(file) for file in sorted(members))))
        else:
            got = ", ".join(file.name for file in sorted(members))
            remedy = f"expected {', '.join(expected)}, or one file with {channels} channel(s)"
            problems.append(Problem(str(members[0].parent), f"case {name!r} has {got}", remedy))
    if problems:
        raise DataError(problems)
    return cases
