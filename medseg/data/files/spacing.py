"""Spacing that somebody says where the headers of all files lie: `data.spacing_mm` of a config.

As the limits of sizes, it stands in the environment of the process, so that whatever reads an image in it, or in a
process that it starts, reads images and labels alike. Masks are written with the header of their image.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medseg.core.errors import ConfigError, DataError, Problem
from medseg.data.files.formats import Image

SPACING = "MEDSEG_SPACING_MM"
GIVEN = os.environ.get(SPACING)  # by whoever started this process
SAY_IT = "say the right one, which counts for all files: spacing_mm"


def say_spacing(spacing_mm: Sequence[float] | None = None) -> None:
    """Volumes are read with these lengths of a voxel, along the axes of the file; None: as this process was started."""
    text = GIVEN if spacing_mm is None else ",".join(repr(float(length)) for length in spacing_mm)
    if text is None:
        os.environ.pop(SPACING, None)
    else:
        os.environ[SPACING] = text


def said_spacing() -> tuple[float, ...] | None:
    """What was said; raises ConfigError where the environment holds no lengths."""
    text = os.environ.get(SPACING)
    if not text:
        return None
    try:
        lengths = tuple(float(number) for number in text.strip("[] ").split(","))
    except ValueError:
        lengths = ()
    if len(lengths) not in (2, 3) or not all(0 < length < math.inf for length in lengths):
        raise ConfigError(Problem(SPACING, f"{text!r} is no spacing", "give two or three lengths in mm: 0.9,0.9,5"))
    return lengths


def respaced(image: Image) -> Image:
    """The image with the spacing that was said, about the same origin; as it is where none was.

    Raises:
        DataError: it has another number of axes.
    """
    lengths = said_spacing()
    if lengths is None:
        return image
    if len(lengths) != len(image.shape):
        what = f"has {len(image.shape)} axes, but spacing_mm has {len(lengths)} lengths"
        raise DataError(Problem(str(image.path), what, "give a length for each axis of the files"))
    affine = image.affine.copy()
    affine[:3, : len(lengths)] *= np.divide(lengths, image.spacing_mm)
    return replace(image, affine=affine)
