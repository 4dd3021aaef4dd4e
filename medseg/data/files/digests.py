"""Which files are still those that they were: by a digest of their content, or since nobody has touched them."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from medseg.core.errors import DataError, Problem
from medseg.core.fast import crc32
from medseg.core.files import readable
from medseg.core.stored import Stored
from medseg.data.files.images import files_beside

Touched = tuple[str, int, int, int]  # path, bytes, times of the last change of content and of anything


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with readable(Path(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_checksum(path: str | Path) -> int:
    """CRC-32 of a file's content: it finds what a disk damages, several times faster than a digest."""
    found = 0
    with readable(Path(path)).open("rb") as file:
        while part := file.read(1 << 20):
            found = crc32(part, found)
    return found


def array_checksum(array: np.ndarray) -> int:
    """CRC-32 of the `.npy` file that NumPy writes of a contiguous array, without reading it back."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return crc32(array.reshape(-1).view(np.uint8).data, crc32(header.getvalue()))


@dataclass(frozen=True)
class FileState:
    """A file at some moment.

    Args:
        touched: where it is, its size and times: while they stay, so does the content. (The last time is the system's
            own, ctime, which no program can set back.)
        sha256: of its content; empty where nobody has read it yet.
    """

    touched: Touched
    sha256: str = ""

    @property
    def path(self) -> str:
        return self.touched[0]

    def is_content_of(self, other: FileState) -> bool | None:
        """Whether both are the same content; None where only reading can tell."""
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        if self.touched == other.touched:
            return True
        return None if self.touched[1] == other.touched[1] else False

    def to_plain(self) -> list[Any]:
        return [*self.touched, self.sha256]


def files_of_image(path: Path) -> list[Path]:
    """What an image, or a label, is read from: its own file, unless it is a folder, and those that a header names."""
    return [*([] if path.is_dir() else [path]), *files_beside(path)]


def state_of(path: str | Path) -> FileState:
    """Without its digest.

    Raises:
        DataError: there is no such file.
    """
    try:
        status = os.stat(path)
    except OSError:
        raise DataError(Problem(str(path), "no such file")) from None
    return FileState((str(Path(path).absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def hashed(state: FileState) -> FileState:
    """The same file as it is now, with its digest.

    Raises:
        DataError: it is gone, cannot be read, or is being written to.
    """
    before = state_of(state.path)
    try:
        digest = file_digest(state.path)
    except OSError as error:
        raise DataError(Problem(state.path, f"cannot be read: {error.strerror}", "replace the file")) from None
    if state_of(state.path) != before:
        raise DataError(Problem(state.path, "changed while it was read", "wait until nobody writes to the data set"))
    return replace(before, sha256=digest)


@dataclass(frozen=True)
class ImageState:
    """The files that an image, or a label, is read from: its own, and those that a header names too."""

    files: tuple[FileState, ...]

    @classmethod
    def of(cls, path: str | Path) -> ImageState:
        """Without digests; raises DataError where a file is missing."""
        try:
            there = files_of_image(Path(path))
        except OSError as error:
            raise DataError(Problem(str(error.filename or path), "no such file")) from None
        return cls(tuple(state_of(file) for file in there if not file.is_dir()))

    @property
    def identity(self) -> str:
        """SHA-256 of all content; empty where a digest is missing."""
        digests = [file.sha256 for file in self.files]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest() if all(digests) else ""

    def each(self, change: Callable[[FileState], FileState]) -> ImageState:
        return ImageState(tuple(change(file) for file in self.files))

    def compared(self, before: ImageState, *, verify: bool = False) -> tuple[ImageState, str]:
        """As it is now with the digests that had to be known for it, and the first file of other content ("": none).

        Args:
            before: the same, at an earlier moment.
            verify: read every file, touched or not.
        """
        if len(self.files) != len(before.files):
            return self, self.files[0].path if self.files else before.files[0].path
        now, other = [], ""
        for file, old in zip(self.files, before.files, strict=True):
            known = hashed(file) if verify else _known(file, old)
            same = known.is_content_of(old)
            if same is None and old.sha256:
                known = hashed(known)
                same = known.is_content_of(old)
            now.append(known)
            other = other or ("" if same else file.path)
        return ImageState(tuple(now)), other


def _known(file: FileState, old: FileState) -> FileState:
    return old if file.touched == old.touched else file


@dataclass(frozen=True)
class CaseState:
    """The files of a case: its image, one a channel (None: it lacks that) or one with all, and its label."""

    images: tuple[ImageState | None, ...]
    label: ImageState | None

    @property
    def identities(self) -> frozenset[str]:
        """Of its image, one a file of channels; without those whose digest is missing."""
        return frozenset(image.identity for image in self.images if image is not None) - {""}

    @property
    def is_known(self) -> bool:
        """Whether every digest of its image is known, so that it is found again under another name."""
        return all(image.identity for image in self.images if image is not None)

    def is_among(self, seen: Set[str]) -> bool:
        """Whether all its image is among these identities: also in another order, or with fewer channels.

        (A single channel may be the same in all cases: an atlas, or zeros in the place of one that was not measured.)
        """
        return self.is_known and self.identities <= seen

    @property
    def files(self) -> tuple[FileState, ...]:
        parts = [part for part in (*self.images, self.label) if part is not None]
        return tuple(file for part in parts for file in part.files)

    def each(self, change: Callable[[FileState], FileState]) -> CaseState:
        """With every file changed so."""
        label = None if self.label is None else self.label.each(change)
        return CaseState(tuple(None if one is None else one.each(change) for one in self.images), label)

    def compared(self, before: CaseState, *, verify: bool = False) -> tuple[CaseState, list[str]]:
        """As it is now, with the digests that had to be known for it, and what has changed, for a person.

        Raises:
            DataError: a file is gone, or cannot be read.
        """
        if len(self.images) != len(before.images):
            return self, [f"{len(self.images)} files of an image, {len(before.images)} before"]
        changes, images = [], []
        for number, (image, old) in enumerate(zip(self.images, before.images, strict=True)):
            if image is None or old is None:
                images.append(image)
                if image is not old:
                    changes.append(f"channel {number} is {'gone' if image is None else 'new'}")
                continue
            now, other = image.compared(old, verify=verify)
            images.append(now)
            changes += [f"another image: {other}"] if other else []
        label = self.label
        if label is None or before.label is None:
            changes += [f"the label is {'gone' if label is None else 'new'}"] if label is not before.label else []
        else:
            label, other = label.compared(before.label, verify=verify)
            changes += [f"another label: {other}"] if other else []
        return CaseState(tuple(images), label), changes

    def to_plain(self) -> dict[str, Any]:
        def plain(part: ImageState | None) -> Any:
            return None if part is None else [file.to_plain() for file in part.files]

        return {"images": [plain(image) for image in self.images], "label": plain(self.label)}

    @classmethod
    def from_plain(cls, content: Any) -> CaseState:
        """The inverse; raises ValueError for anything else."""
        return CaseFiles.model_validate_json(json.dumps(content)).state


Size = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Row = tuple[str, Size, int, int, Digest]
"""A file: path, size, its times, and the digest of its content, empty where nobody knows it."""


class CaseFiles(Stored):
    """A case as `CaseState.to_plain` writes it."""

    images: Annotated[tuple[tuple[Row, ...] | None, ...], Field(min_length=1)]
    label: tuple[Row, ...] | None

    @property
    def state(self) -> CaseState:
        def read(rows: tuple[Row, ...] | None) -> ImageState | None:
            return None if rows is None else ImageState(tuple(FileState(row[:4], row[4]) for row in rows))

        return CaseState(tuple(read(rows) for rows in self.images), read(self.label))


def with_digests(known: Mapping[Touched, str]) -> Callable[[FileState], FileState]:
    """Fills in what others have read already: the digests of files that nobody touched since."""
    return lambda file: file if file.sha256 else replace(file, sha256=known.get(file.touched, ""))
