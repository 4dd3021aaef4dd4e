"""BIDS: `sub-01[/ses-02]/anat/sub-01[_ses-02]_T1w.nii.gz`, manual labels among the derivatives.

Labels are `derivatives/PIPELINE/sub-01/.../*_dseg.nii.gz` (classes, named by a `*dseg.tsv` with the columns index and
name, beside them or further up) or `*_mask.nii.gz` (one class, named by its `label-` or `desc-`). A session is a
case, a subject is a patient, and the suffixes (T1w, T2w, FLAIR) are the channels. Where one suffix stands for several
images of a session, their other entities (acq-, ce-, run-) tell the channels apart.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from medseg.core.errors import Problem
from medseg.core.files import readable
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.files.formats import ENDINGS
from medseg.data.files.images import case_name

DATATYPES = ("anat", "ct", "pet")
DERIVED = ("mask", "dseg", "probseg", "defacemask")  # suffixes that are no scan
WHO = ("sub", "ses")
CHOOSE = "choose by a list: a CSV file with the columns case, patient, image_T1w, ..., label"


class BIDS(Layout):
    """A session of a subject is a case."""

    expects = "sub-01/anat/sub-01_T1w.nii.gz of BIDS, labels among its derivatives"

    def recognises(self, root: Path) -> bool:
        return any(_raw(root))

    def find(self, root: Path) -> Found:
        return find_bids(root)


def find_bids(root: Path) -> Found:
    """The sessions of all subjects. What is ambiguous is a problem, and never chosen in silence."""
    found = Found()
    images: dict[str, dict[str, Path]] = {}
    for file in _raw(root):
        images.setdefault(_session(file), {})[_channel(file, full=True)] = file
    labels = _labels(root, found.problems)
    for session, label in sorted(labels.items()):
        if session not in images:
            found.problems.append(Problem(str(label), "has no image among the raw data", "add it, or remove the label"))
    sessions = {session: files for session, files in images.items() if session in labels} or images
    images = {session: _short_names(own, images.values()) for session, own in images.items()}
    counts: dict[str, int] = {}
    for session in sessions:
        for channel in images[session]:
            counts[channel] = counts.get(channel, 0) + 1
    found.channels = tuple(sorted(counts))
    for session, files in sorted(images.items()):
        missing = [channel for channel in found.channels if channel not in files]
        if missing and session in sessions:
            having = ", ".join(f"{channel} in {counts[channel]} of {len(sessions)}" for channel in missing)
            what = f"{session} has no {', '.join(missing)} ({having})"
            found.incomplete.append(Problem(str(next(iter(files.values())).parent), what, f"add it, or {CHOOSE}"))
        if len(missing) == len(found.channels):
            continue
        own = str(labels[session]) if session in labels else None
        paths = [files.get(channel) for channel in found.channels]
        case = Case(
            session, tuple(None if path is None else str(path) for path in paths), own, session.partition("_")[0]
        )
        (found.unlabelled if own is None else found.cases).append(case)
    found.labels = _meaning(root, list(labels.values()), found.problems)
    return found


def _raw(root: Path) -> Iterator[Path]:
    """The scans, without what was derived from them."""
    for datatype in DATATYPES:
        for pattern in (f"sub-*/{datatype}/sub-*", f"sub-*/ses-*/{datatype}/sub-*"):
            for file in sorted(root.glob(pattern)):
                if file.name.lower().endswith(ENDINGS) and _suffix(file) not in DERIVED:
                    yield file


def _entities(file: Path) -> dict[str, str]:
    return dict(part.partition("-")[::2] for part in case_name(file).split("_")[:-1])


def _suffix(file: Path) -> str:
    return case_name(file).rpartition("_")[2]


def _session(file: Path) -> str:
    entities = _entities(file)
    return "_".join(f"{key}-{entities[key]}" for key in WHO if key in entities)


def _channel(file: Path, *, full: bool) -> str:
    others = [f"{key}-{value}" for key, value in _entities(file).items() if key not in WHO and full]
    return "_".join([*others, _suffix(file)])


def _short_names(files: dict[str, Path], every: Iterable[dict[str, Path]]) -> dict[str, Path]:
    """The images of a session by suffix alone, where no session has two of that suffix."""
    ambiguous: set[str] = set()
    for session in every:
        suffixes = [_suffix(file) for file in session.values()]
        ambiguous |= {suffix for suffix in suffixes if suffixes.count(suffix) > 1}
    return {_channel(file, full=_suffix(file) in ambiguous): file for file in files.values()}


def _labels(root: Path, problems: list[Problem]) -> dict[str, Path]:
    """Session -> its label."""
    kinds: dict[tuple[str, ...], list[Path]] = {}
    for file in sorted((root / "derivatives").rglob("sub-*")):
        if file.is_file() and file.name.lower().endswith(ENDINGS) and _suffix(file) in ("mask", "dseg"):
            pipeline = file.relative_to(root / "derivatives").parts[0]
            entities = _entities(file)
            kind = ("" if pipeline.startswith("sub-") else pipeline, *(entities.get(k, "") for k in ("label", "desc")))
            kinds.setdefault((*kind, _suffix(file)), []).append(file)
    if len(kinds) > 1:  # the outline of a brain, of a skull-stripping, is no annotation
        kinds = {kind: files for kind, files in kinds.items() if kind[2] != "brain" or kind[1]} or kinds
    if len(kinds) > 1:
        some = "; ".join(f"{files[0].relative_to(root)} ({len(files)} such)" for files in kinds.values())
        problems.append(Problem(str(root / "derivatives"), f"several kinds of labels: {some}", CHOOSE))
    labels: dict[str, Path] = {}
    for file in [file for files in kinds.values() for file in files]:
        if (other := labels.setdefault(_session(file), file)) != file and len(kinds) == 1:
            problems.append(Problem(str(file), f"{_session(file)} has another label, {other.name}", CHOOSE))
    return labels


def _meaning(root: Path, files: list[Path], problems: list[Problem]) -> Labels:
    """What the values of the labels mean; empty where no table says so."""
    masks = [file for file in files if _suffix(file) == "mask"]
    if masks and len(masks) == len(files):
        entities = _entities(masks[0])
        return Labels({"background": 0, entities.get("label") or entities.get("desc") or "foreground": 1})
    named: dict[int, str] = {}
    for table in sorted({table for file in files if (table := _table(file, root)) is not None}):
        with readable(table).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        for line, row in enumerate(rows, start=2):
            index, name = row.get("index"), row.get("name")
            if not name or not str(index).isdigit() or int(str(index)) > 255:
                what = f"index {index!r}, name {name!r}"
                problems.append(Problem(f"{table}:{line}", what, "expected the columns index (0 to 255) and name"))
            elif named.setdefault(int(str(index)), name) != name:
                what = f"{index} is {name} here and {named[int(str(index))]} elsewhere"
                problems.append(Problem(f"{table}:{line}", what, "a value means one thing in all tables"))
    if not named:
        return Labels({})
    named.setdefault(0, "background")
    if len(set(named.values())) < len(named):
        problems.append(Problem(str(root / "derivatives"), "two label values have one name", "correct the dseg.tsv"))
    return Labels({named[value]: value for value in sorted(named)})


def _table(label: Path, root: Path) -> Path | None:
    """The `dseg.tsv` that speaks of a label: the nearest whose entities are all the label's (BIDS' inheritance)."""
    own = _entities(label).items()
    folder = label.parent
    while folder != root and root in folder.parents:
        fitting = [file for file in folder.glob("*dseg.tsv") if _entities(file).items() <= own]
        if fitting:
            return max(fitting, key=lambda file: (len(_entities(file)), file.name))
        folder = folder.parent
    return None
