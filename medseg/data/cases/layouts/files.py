"""What the layouts share: files of images, channels that are files of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.core.files import absolute
from medseg.data.cases.case import CHANNEL, Case, case_of, stem
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

    Args:
        incomplete: where cases may lack channels: what each of them lacks is added here, and it is listed.

    Raises:
        DataError: a case without all its channels; where it may lack some, with others than it can have.
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
