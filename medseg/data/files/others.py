"""Files of images that medseg does not read: which they are, and what to do instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.core.errors import Problem
from medseg.core.files import readable
from medseg.data.files.nifti import ANALYZE, FROM_SCAN, MAGIC, PAIR, TO_ONE_FILE

PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")
FREESURFER = (".mgz", ".mgh")
MRI_CONVERT = "convert it: mri_convert scan.mgz scan.nii.gz"


def not_read(files: Iterable[Path]) -> Problem | None:
    """What the first such file is, and its remedy; None where there is none."""
    for file in sorted(files):
        name = file.name.lower()
        if name.endswith(FREESURFER):
            return Problem(str(file), "is a FreeSurfer volume, which is not read", MRI_CONVERT)
        if name.endswith(".hdr") and file.is_file():
            with readable(file).open("rb") as content:
                pair = content.read(MAGIC.stop)[MAGIC] == b"ni1"
            return Problem(str(file), *((PAIR, TO_ONE_FILE) if pair else (ANALYZE, FROM_SCAN)))
        if name.endswith(PAIRS) and not file.with_suffix(".hdr").exists():
            return Problem(str(file), "is half of a pair of files, Analyze or NIfTI", FROM_SCAN)
    return None
