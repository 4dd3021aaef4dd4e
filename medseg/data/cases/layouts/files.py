"""What the layouts share: files of images, channels that are files of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.core.files import absolute
from medseg.data.cases.case import Case, are_channels, channel_of, stem
from medseg.data.cases.layouts.layout import Found
from medseg.data.files.images import ENDINGS
from medseg.data.files.pictures import is_picture


def image_files(folder: Path) -> list[Path]:
    """The images in a folder; none where there is no folder."""
    if not folder.is_dir():
        return []
    # names that start with a dot are not images: macOS leaves ._case.nii.gz beside every file of an archive
    return sorted(f for f in folder.iterdir() if f.name.lower().endswith(ENDINGS) and not f.name.startswith("."))


def existing(path: Path, problems: list[Problem]) -> str:
    """The absolute path; a problem is added where nothing is there, or nothing can be."""
    try:
        if not path.exists():
            problems.append(Problem(str(path), "no such file", "add it, or take the case out"))
        return str(absolute(path))
    except (OSError, ValueError) as error:  # no right to look; a name too long, or with a character 0 in it
        reason = getattr(error, "strerror", None) or str(error)
        problems.append(Problem(repr(str(path)[:200]), f"can be no file: {reason}", "correct the path, or its rights"))
        return str(path)


def one_a_channel(files: Iterable[Path], found: Found) -> tuple[str | None, ...]:
    """The absolute paths of a case's channels, None where nothing is there, which is what is wrong with it."""
    paths = [(existing(file, found.incomplete), file.exists()) for file in files]
    return tuple(path if there else None for path, there in paths)


def grouped(files: Iterable[Path], channels: int, incomplete: list[Problem] | None = None) -> list[Case]:
    """Cases of a folder without a description: a case is one file, or the files `{case}_0000`, `{case}_0001`, ...

    A number at the end of a name that cannot be a channel (`pancreas_0042`) is a part of the name.

    Args:
        incomplete: where cases may lack channels: what each of them lacks is added here, and it is listed.

    Raises:
        DataError: a case without all its channels; where it may lack some, with others than it can have.
    """
    files = list(files)
    if channels == 1 and are_channels(files) != 1:
        return [Case(stem(file), (str(file),)) for file in files]
    groups: dict[str, list[Path]] = {}
    for file in files:
        found = channel_of(file)
        groups.setdefault(stem(file) if found is None else found[0], []).append(file)
    # such numbers are names only where none in the folder could be those of channels
    names = not any((found := channel_of(file)) and found[1] < channels for file in files)
    problems: list[Problem] = []
    cases: list[Case] = []
    for name, members in sorted(groups.items()):
        members.sort()
        numbers = [None if (found := channel_of(file)) is None else found[1] for file in members]
        if names and numbers != [None]:
            cases += [Case(stem(file), (str(file),)) for file in members]
        elif len(members) == 1 and (numbers == [None] or (numbers == [0] and is_picture(members[0]))):
            cases.append(Case(name, (str(members[0]),)))
        elif numbers == list(range(channels)):
            cases.append(Case(name, tuple(str(file) for file in members)))
        else:
            expected = [f"{name}_{i:04d}" for i in range(channels)]
            got = ", ".join(file.name for file in members)
            remedy = f"expected {', '.join(expected)}, or one file with {channels} channel(s)"
            problem = Problem(str(members[0].parent), f"case {name!r} has {got}", remedy)
            files_of = {stem(file): str(file) for file in members}
            if incomplete is None or len(files_of) < len(members) or not files_of.keys() <= set(expected):
                problems.append(problem)
                continue
            incomplete.append(problem)
            cases.append(Case(name, tuple(files_of.get(one) for one in expected)))
    if problems:
        raise DataError(problems)
    return cases
