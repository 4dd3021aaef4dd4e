"""Whether the original and the derived files of one series are one volume: some were resampled, or corrected, since."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from medseg.core.errors import DataError
from medseg.data.files.dicom import header as of
from medseg.data.files.dicom.frames import Frame, frames_of
from medseg.data.files.dicom.header import Header
from medseg.data.files.dicom.series import DERIVED, SCAN, Series, series_of
from medseg.data.files.dicom.volume import PARALLEL, SPACING

ELSEWHERE = 0.1  # share of the distance of slices from which on two of them lie at different places


def whole_series(headers: Iterable[Header]) -> list[Series]:
    """As `series_of`, but what was derived and lies between the slices of its series, or goes on with them, is of them.

    Derived slices that lie where others of the series do (a map beside what it was computed from), in another plane, or
    with other pixels, stay apart. Whether the whole is regular is asked when it is read, so that no half of a scan is
    taken for all of it.
    """
    every = series_of(headers)
    scans = {one.headers[0].text(of.SERIES): one for one in every if one.role == SCAN}
    found = {id(one): one for one in every}
    for derived in every:
        scan = scans.get(derived.headers[0].text(of.SERIES)) if derived.role == DERIVED else None
        if scan is not None and _are_one_volume(scan, derived):
            del found[id(derived)]
            found[id(scan)] = Series((*scan.headers, *derived.headers), SCAN)
    return list(found.values())


def _are_one_volume(scan: Series, derived: Series) -> bool:
    try:
        one, other = ([frame for header in part.headers for frame in frames_of(header)] for part in (scan, derived))
    except DataError:  # it does not say where its slices lie, which is said where they are read
        return False
    first = one[0]
    if scan.modality != derived.modality or not all(_fits(frame, first) for frame in (*one, *other)):
        return False
    normal = np.cross(*first.axes)
    places, others = (np.sort([frame.position @ normal for frame in part]) for part in (one, other))
    apart = np.abs(places[:, None] - others).min()
    steps = [float(step) for part in (places, others) for step in np.diff(part) if step > 0]
    return bool(apart > ELSEWHERE * min(steps, default=0.0) + 1e-3)


def _fits(frame: Frame, first: Frame) -> bool:
    same_size = (frame.rows, frame.columns) == (first.rows, first.columns)
    parallel = np.abs(frame.axes - first.axes).max() <= PARALLEL
    return bool(same_size and parallel and np.allclose(frame.spacing, first.spacing, rtol=SPACING))
