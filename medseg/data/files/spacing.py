"""Spacing that somebody says where the headers of all files lie: `data.spacing_mm` of a config.

Images and labels get it alike; masks are written with the header of their image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medseg.core.errors import DataError, Problem
from medseg.data.files.formats import Image
from medseg.data.files.reading import SPACING, now, said_spacing

RESPACED = "the spacing is that of"  # how such a note begins
SAY_IT = "say the right one, which counts for all files: spacing_mm"


def respaced(image: Image) -> Image:
    """The image with the spacing that was said, about the same origin; as it is where none was.

    One slice among volumes has two axes and three lengths: the third is that of its thickness.

    Raises:
        DataError: it has another number of axes.
    """
    lengths = said_spacing()
    if lengths is None:
        return image
    axes = len(image.shape)
    if axes > len(lengths):
        what = f"has {axes} axes, but spacing_mm has {len(lengths)} lengths"
        raise DataError(Problem(str(image.path), what, "give a length for each axis of the files"))
    affine, sides = image.affine.copy(), np.linalg.norm(image.affine[:3, : len(lengths)], axis=0)
    affine[:3, : len(lengths)] *= np.divide(lengths, np.where(sides > 0, sides, 1))
    by = f"the variable {SPACING}" if now().spacing_mm is None else "the config"
    note = f"{RESPACED} {by}: {_text(lengths[:axes])} mm; the file says {_text(image.spacing_mm)} mm"
    return replace(image, affine=affine, affine_of_file=image.affine, notes=(*image.notes, note))


def _text(lengths: tuple[float, ...]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)
