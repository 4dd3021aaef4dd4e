"""Files in a zip, which anybody may have written: unpacked one by one under safe names, in a folder that is removed."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from medseg.core.errors import DataError, Problem
from medseg.core.machine import free_disk, size_text
from medseg.data.files.limits import check_size

ARCHIVE = ".zip"
MOST_FILES = 100_000
LONGEST_NAME = 100  # letters of a part of a path that are kept
Wanted = Callable[[bytes], bool]
REMEDY = "unpack it, and give the folder"
FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def holds(path: Path, wanted: Wanted, count: int) -> bool:
    """Whether a zip holds a file whose first `count` bytes are wanted; False of a damaged one, and of no zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(_is_wanted(archive, one, wanted, count) for one in archive.infolist())
    except (*FAULTS, OSError):
        return False


@contextmanager
def unpacked_files(path: Path, wanted: Wanted, count: int) -> Iterator[tuple[Path, list[Path]]]:
    """A temporary folder with those files of a zip whose first `count` bytes are wanted, and their paths in it, sorted.

    Raises:
        DataError: it is no zip, damaged, encrypted, or unpacks to more than an image may hold, or a disk.
    """
    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                files = _unpack(archive, path, Path(folder), wanted, count)
        except FAULTS:
            raise DataError(Problem(str(path), "a zip that is damaged or encrypted", REMEDY)) from None
        yield Path(folder), files


def _unpack(archive: zipfile.ZipFile, path: Path, folder: Path, wanted: Wanted, count: int) -> list[Path]:
    if len(archive.infolist()) > MOST_FILES:
        raise DataError(Problem(str(path), f"a zip of more than {MOST_FILES} files", REMEDY))
    entries = [one for one in archive.infolist() if _is_wanted(archive, one, wanted, count)]
    size = sum(one.file_size for one in entries)
    check_size(path, size, f"unpacks to {size_text(size)}")
    if size > (free := free_disk(folder)):
        what = f"unpacks to {size_text(size)}, but {size_text(free)} are free for temporary files"
        raise DataError(Problem(str(path), what, "make room, or name another folder in TMPDIR"))
    files: list[Path] = []
    for entry in entries:
        place = _place(folder, entry.filename, set(files))
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, place.open("xb") as target:  # zipfile ends where the entry says it ends
            shutil.copyfileobj(source, target)
        files.append(place)
    return sorted(files)


def _is_wanted(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, wanted: Wanted, count: int) -> bool:
    name = PurePosixPath(entry.filename).name
    if entry.is_dir() or name.startswith(".") or name.upper() == "DICOMDIR" or "__MACOSX" in entry.filename:
        return False
    with archive.open(entry) as file:
        return wanted(file.read(count))


def _place(folder: Path, name: str, taken: set[Path]) -> Path:
    """Where in the folder, and nowhere else, a file of that name may lie."""
    parts = [part for part in name.replace("\\", "/").replace(":", "/").split("/") if part not in ("", ".", "..")]
    safe = ["".join(letter for letter in part if letter.isprintable())[-LONGEST_NAME:] for part in parts]
    place = folder.joinpath(*safe)
    number = 0
    while place in taken or place == folder or place.is_dir() or any(one in taken for one in place.parents):
        number += 1
        place = folder / f"{number}_{safe[-1] if safe else 'file'}"
    return place
