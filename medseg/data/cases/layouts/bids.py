"""BIDS: `sub-01[/ses-02]/anat/sub-01[_ses-02]_T1w.nii.gz`, manual labels among the derivatives.

A session is a case (a run of it, where each run has a label), a subject is a patient, and the suffixes (T1w, dwi, adc)
are the channels. Where one suffix stands for several images of a session, their other entities (acq-, ce-, run-) tell
the channels apart. Which files are labels is said by `bids_labels.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from medseg.core.errors import DataError, Problem, listed
from medseg.data.cases.case import Case
from medseg.data.cases.layouts.bids_labels import (
    CHOOSE,
    DERIVATIVES,
    EXPECTED,
    NO_LABELS,
    are_of_runs,
    by_session,
    chosen_labels,
    entities,
    is_label,
    label_files,
    meaning,
    session_of,
    suffix,
)
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.files.formats import ENDINGS

DATATYPES = ("anat", "ct", "dwi", "perf", "pet", "swi")
WHO = ("sub", "ses")


class BIDS(Layout):
    """A session of a subject is a case."""

    expects = "sub-01/anat/sub-01_T1w.nii.gz of BIDS, labels among its derivatives"
    label_names = "*_dseg, *_mask, *_msk or *_seg"

    def recognises(self, root: Path) -> bool:
        return any(_raw(root)) or any(_masks(root))

    def find(self, root: Path) -> Found:
        return find_bids(root)

    def is_label(self, name: str) -> bool:
        return not name.startswith("sub-") or is_label(Path(name)) or "-" in name.rpartition("_")[2]


def find_bids(root: Path) -> Found:
    """The sessions of all subjects. What is ambiguous is a problem, and never chosen in silence."""
    found = Found()
    if not any(_raw(root)):
        remedy = f"check the data set of the images, with this folder in its {DERIVATIVES}/; `score` reads it as it is"
        raise DataError(Problem(str(root), "holds labels of BIDS, but no images", remedy))
    every, unread = label_files(root)
    files = chosen_labels(every, root, found.problems)
    if unread and not files:
        some = listed([str(file.relative_to(root)) for file in unread])
        what = f"no file is named as a label, but some seem to be labels: {some}"
        found.problems.append(Problem(str(root / DERIVATIVES), what, f"expected {EXPECTED}; or {CHOOSE}"))
    who = (*WHO, "run") if are_of_runs(files, WHO) else WHO
    images: dict[str, dict[str, Path]] = {}
    for file in _raw(root):
        images.setdefault(session_of(file, who), {})[_channel(file, who, full=True)] = file
    labels = by_session(files, who, found.problems)
    for session, label in sorted(labels.items()):
        if session not in images:
            found.problems.append(Problem(str(label), "has no image among the raw data", "add it, or remove the label"))
    sessions = {session: files for session, files in images.items() if session in labels} or images
    images = {session: _short_names(own, images.values(), who) for session, own in images.items()}
    counts: dict[str, int] = {}
    for session in sessions:
        for channel in images[session]:
            counts[channel] = counts.get(channel, 0) + 1
    found.channels = tuple(sorted(counts))
    for session, own in sorted(images.items()):
        missing = [channel for channel in found.channels if channel not in own]
        if missing and session in sessions:
            having = ", ".join(f"{channel} in {counts[channel]} of {len(sessions)}" for channel in missing)
            what = f"{session} has no {', '.join(missing)} ({having})"
            found.incomplete.append(Problem(str(next(iter(own.values())).parent), what, f"add it, or {CHOOSE}"))
        if len(missing) == len(found.channels):
            continue
        paths = tuple(str(own[channel]) if channel in own else None for channel in found.channels)
        own_label = str(labels[session]) if session in labels else None
        case = Case(session, paths, own_label, session.partition("_")[0])
        (found.unlabelled if own_label is None else found.cases).append(case)
    found.labels = meaning(root, list(labels.values()), found.problems)
    return found


def _raw(root: Path) -> Iterator[Path]:
    """The scans, without what was derived from them."""
    for datatype in DATATYPES:
        for pattern in (f"sub-*/{datatype}/sub-*", f"sub-*/ses-*/{datatype}/sub-*"):
            for file in sorted(root.glob(pattern)):
                if file.name.lower().endswith(ENDINGS) and not is_label(file) and suffix(file) not in NO_LABELS:
                    yield file


def _masks(root: Path) -> Iterator[Path]:
    """The labels in the folders of subjects, where a derivative data set stands alone."""
    return (file for who in ("sub-*", "sub-*/ses-*") for file in root.glob(f"{who}/anat/sub-*_dseg.nii*"))


def _channel(file: Path, who: Collection[str], *, full: bool) -> str:
    others = [f"{key}-{value}" for key, value in entities(file).items() if key not in who and full]
    return "_".join([*others, suffix(file)])


def _short_names(files: dict[str, Path], every: Iterable[dict[str, Path]], who: Collection[str]) -> dict[str, Path]:
    """The images of a session by suffix alone, where no session has two of that suffix."""
    ambiguous: set[str] = set()
    for session in every:
        suffixes = [suffix(file) for file in session.values()]
        ambiguous |= {one for one in suffixes if suffixes.count(one) > 1}
    return {_channel(file, who, full=suffix(file) in ambiguous): file for file in files.values()}
