"""What made a mask, so that it is not made again: written into its sidecar, and compared before it is taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.core.sealed import data_digest
from medseg.data.files.digests import file_digest, files_of_image, state_of

ORIGIN = "origin"  # its key in the sidecar
IMAGE, TOUCHED, MASK = "image", "touched", "mask"  # keys in it, beside those of the maker

Images = Sequence[str | Path | None]
"""As of a `Case`: None stands for a channel that it lacks."""


def image_digest(images: Images) -> str:
    """Of the content of the files of an image: another one is another digest; one that was moved, or copied, is not."""
    each = ([[file.name, file_digest(file)] for file in files] for files in _files(images))
    return data_digest(list(each))


def _touched(images: Images) -> str:
    """Of where the files are and when somebody touched them last: while that stays, so does their content."""
    return data_digest([[state_of(file).touched for file in files] for files in _files(images)])


def _files(images: Images) -> Iterable[list[Path]]:
    return ([] if image is None else files_of_image(Path(image)) for image in images)


def origin_of(made_by: Mapping[str, str], images: Images, mask: Path) -> dict[str, str]:
    """The origin of the mask in this file: who made it, from which image, and what was written.

    The file's own digest tells a mask that somebody has edited since, or that a crash left beside an older sidecar.
    """
    return {**made_by, IMAGE: image_digest(images), TOUCHED: _touched(images), MASK: file_digest(mask)}


def is_of_image(origin: Mapping[str, Any], images: Images) -> bool:
    """Whether that is the origin of a mask of this image, which is read only where somebody has touched it since.

    Raises:
        DataError, OSError: a file is gone.
    """
    return origin.get(TOUCHED) == _touched(images) or origin.get(IMAGE) == image_digest(images)


def maker_and_image(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the masks of one prediction in several formats from those of another."""
    return {key: value for key, value in origin.items() if key not in (TOUCHED, MASK)}
