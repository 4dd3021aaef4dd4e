"""What only shows when the cases of a data set are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from medseg.core.errors import count_of
from medseg.data.cases.coarseness import slab_doubt, spacing_doubt
from medseg.data.cases.inspection import IMPOSSIBLE, UNEXPECTED, CaseFacts, Finding
from medseg.data.files.spacing import SAY_IT

FEW_CASES = 5  # with a fifth held out, fewer than this and a class may be missing from either part


def across(facts: Sequence[CaseFacts], *, pictures: bool = False) -> Iterator[Finding]:
    """Findings of the data set, or of cases in comparison; what the facts do not hold is not compared.

    Args:
        pictures: some of the images are pictures, which have no third axis.
    """
    dims = Counter(len(case.shape) for case in facts if case.shape)
    if len(dims) > 1 and pictures:  # among volumes a slice is a volume of one
        fewest = min(dims, key=lambda key: dims[key])
        for case in facts:
            if len(case.shape) == fewest:
                what = f"{fewest}D among {count_of(sum(dims.values()) - dims[fewest], 'case')} of another kind"
                yield Finding("error", "2D and 3D images mixed", case.case, "", what, "train on one kind at a time")
    if doubt := _spacing(facts):
        yield Finding("warning", IMPOSSIBLE, "", "", doubt, SAY_IT)
    first: dict[str, str] = {}
    for case in facts:
        if case.digest and first.setdefault(case.digest, case.case) != case.case:
            remedy = "a copy in training and validation makes results look better than they are: remove one"
            what = f"the same voxels as {first[case.digest]}"
            yield Finding("warning", "image that is there twice", case.case, "", what, remedy)
    labelled = [case for case in facts if case.voxels is not None]
    strange = any(finding.kind == UNEXPECTED for case in labelled for finding in case.findings)
    if labelled and not strange and not any(sum((case.voxels or {}).values()) for case in labelled):
        remedy = "are these the annotations? A single healthy subject may have none, not all of them"
        yield Finding("error", "no label has anything in it", "", "", f"all {len(labelled)} are background", remedy)
        return
    for name in labelled[0].voxels or () if labelled else ():
        count = sum(bool(case.voxels and case.voxels[name]) for case in labelled)
        if count < min(FEW_CASES, len(labelled)):
            remedy = "it cannot be learnt or measured well: the held-out cases may have none of it"
            yield Finding("warning", "rare class", "", name, f"in {count} of {count_of(len(labelled), 'case')}", remedy)


def _spacing(facts: Sequence[CaseFacts]) -> str:
    """Why the spacing of all volumes cannot be true; empty where it may be, or where they have several."""
    volumes = [case for case in facts if len(case.shape) == 3]
    if not volumes:
        return ""
    spacings, shapes = (np.array([getattr(case, name) for case in volumes]) for name in ("spacing_mm", "shape"))
    coarse = np.array([case.coarseness for case in volumes if case.coarseness])
    return (spacing_doubt(spacings, shapes, coarse) if len(coarse) else "") or slab_doubt(spacings, shapes)
