"""Lists of pictures, a line each: a name, or the paths of a picture and its mask, as other tools write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from medseg.data.files.pictures import PICTURES

Key = tuple[str, str]  # the name of a file, and its ending in small letters


def name_of(entry: str) -> str:
    """The name of the picture that a list names, without folder and ending; any other dot is part of it."""
    return _parts(re.split(r"[\\/]", entry)[-1])[0]


def entries_of(line: str, is_known: Callable[[str], bool]) -> list[str]:
    """The entries of a line: itself where it is known as a name, else what tabs, commas or blanks divide.

    With tabs or commas in the line, paths may have blanks in them.
    """
    if is_known(line):
        return [line]
    for divider in ("\t", ",", ";"):
        if divider in line:
            return [entry.strip() for entry in line.split(divider) if entry.strip()]
    return line.split()


class Places:
    """Where the files are that a list names; each folder is listed once.

    Args:
        folders: what paths of the list begin in, the likeliest first.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self._listed: dict[Path, dict[Key, Path]] = {}

    def find(self, entry: str) -> Path:
        """The file of a path from one of the folders (also with a leading slash), or of an absolute one.

        Its ending may be in other letters than the file's, and its slashes may be those of Windows. Where there is no
        such file, the path at which it would have to be.
        """
        spellings = dict.fromkeys((entry, entry.replace("\\", "/")))
        inside = [folder / spelling.lstrip("/") for folder in self.folders for spelling in spellings]
        absolute = [Path(entry)] if entry.startswith("/") else []
        for path in (*inside, *absolute):
            if found := self._existing(path):
                return found
        first = Path(entry.lstrip("/")).parts[:1]
        return absolute[0] if absolute and not self.folders[0].joinpath(*first).exists() else inside[0]

    def named(self, folder: Path, name: str, endings: Sequence[str] = PICTURES) -> Path | None:
        """The picture of that name in a folder."""
        return next((found for ending in endings if (found := self._existing(folder / f"{name}{ending}"))), None)

    def _existing(self, path: Path) -> Path | None:
        if path.is_file():
            return path
        folder = path.parent
        if folder not in self._listed:
            files = sorted(folder.iterdir()) if folder.is_dir() else []
            self._listed[folder] = {_parts(file.name): file for file in files}
        return self._listed[folder].get(_parts(path.name))


def _parts(name: str) -> Key:
    ending = next((ending for ending in PICTURES if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)], ending
