"""What made a mask, so that it is not made again: written into its sidecar, and compared before it is taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.core.sealed import data_digest
from medseg.data.files.digests import file_digest, files_of_image

ORIGIN = "origin"  # its key in the sidecar


def image_digest(images: Iterable[str | Path | None]) -> str:
    """Of the files of an image: another one, or a changed one, is another digest; a data set that was moved is not.

    Args:
        images: as of a `Case`: None stands for a channel that it lacks.
    """
    files: list[list[Any] | None] = []
    for image in images:
        if image is None:
            files.append(None)
            continue
        states = [(file.name, file.stat()) for file in files_of_image(Path(image))]
        files += [[name, status.st_size, status.st_mtime_ns] for name, status in states]
    return data_digest(files)


def origin_of(made_by: Mapping[str, str], images: Iterable[str | Path | None], mask: Path) -> dict[str, str]:
    """The origin of the mask in this file: who made it, from which image, and what was written.

    The file's own digest tells a mask that somebody has edited since, or that a crash left beside an older sidecar.
    """
    return {**made_by, "image": image_digest(images), "mask": file_digest(mask)}
