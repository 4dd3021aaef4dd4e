"""Which files of a BIDS data set are labels, and what their values mean.

By BIDS, labels are derivatives: `derivatives/PIPELINE/sub-01/.../*_dseg.nii.gz` (classes, named by a `*dseg.tsv` with
the columns index and name, beside them or further up) or `*_mask.nii.gz` (one class, named by its `label-` or `desc-`).
Many data sets name them otherwise: `_msk`, `_label-SC_seg`, `_T2w_seg-manual`, `_lesion-manual`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from medseg.core.errors import Problem
from medseg.core.files import readable, walk
from medseg.core.labels import Labels
from medseg.core.tables import as_it_was
from medseg.data.files.formats import ENDINGS
from medseg.data.files.images import case_name
from medseg.data.writers import OWN
from medseg.data.writers.bids import IGNORE

DERIVATIVES = "derivatives"
OTHER_FOLDERS = ("sourcedata", "code", "stimuli", "rawdata")  # of BIDS, without labels
MASKS = ("mask", "msk", "seg", "roi")  # suffixes of one class, where no table says otherwise
LABELS = (*MASKS, "dseg")
NO_LABELS = ("probseg", "defacemask")  # suffixes that speak of a label, and are neither a label nor a scan
SUSPECT = re.compile(r"lesion|mask|seg|label|annot|roi|manual|tumou?r|truth|(?<![a-z])gt(?![a-z])", re.IGNORECASE)
EXPECTED = "labels named *_dseg, *_mask, *_msk, *_seg or *_seg-manual"
CHOOSE = "choose by a list: a CSV file with the columns case, patient, image_T1w, ..., label"


def entities(file: Path) -> dict[str, str]:
    """`sub-01_run-2_T1w` -> {"sub": "01", "run": "2"}."""
    return dict(part.partition("-")[::2] for part in case_name(file).split("_")[:-1] if "-" in part)


def suffix(file: Path) -> str:
    """The last word of a name; of `_seg-manual` that is seg."""
    return case_name(file).rpartition("_")[2].partition("-")[0]


def rater(file: Path) -> str:
    """`manual` of `_seg-manual`; "" of what is named as BIDS has it."""
    return case_name(file).rpartition("_")[2].partition("-")[2] if SUSPECT.search(suffix(file)) else ""


def is_label(file: Path) -> bool:
    """Whether a file is named as a label."""
    return suffix(file) in LABELS or bool(rater(file))


def session_of(file: Path, who: Collection[str]) -> str:
    """What tells a case from the others: its subject, its session, perhaps its run."""
    found = entities(file)
    return "_".join(f"{key}-{found[key]}" for key in who if key in found)


def label_files(root: Path) -> tuple[list[Path], list[Path]]:
    """(labels, files that seem to be labels by a word of their names), outside of the raw data or beside its scans."""
    labels: list[Path] = []
    unread: list[Path] = []
    for file in sorted(_images(root)):
        if is_label(file):
            labels.append(file)
        elif not _is_raw(file, root) and suffix(file) not in NO_LABELS and SUSPECT.search(case_name(file)):
            unread.append(file)
    return labels, unread


def _images(root: Path) -> Iterator[Path]:
    for folder in root.iterdir():
        if folder.is_dir() and folder.name not in OTHER_FOLDERS and not folder.name.startswith("."):
            files = (file for file in walk(folder) if file.name.lower().endswith(ENDINGS) and not _is_own(file))
            yield from (file for file in files if file.name.startswith("sub-") and file.is_file())


def _is_own(file: Path) -> bool:
    """Whether a file lies in what medseg keeps for itself beside the masks that it wrote (`data.writers.bids`)."""
    return file.parent.name == OWN and (file.parent.parent / IGNORE).is_file()


def _is_raw(file: Path, root: Path) -> bool:
    return file.relative_to(root).parts[0].startswith("sub-")


def kind_of(file: Path, root: Path) -> tuple[str, ...]:
    """(pipeline, label, desc, rater, suffix): labels of one kind say the same of every case."""
    parts, found = file.relative_to(root).parts, entities(file)
    pipeline = parts[1] if parts[0] == DERIVATIVES else parts[0]
    pipeline = "" if pipeline.startswith("sub-") else pipeline
    return pipeline, found.get("label", ""), found.get("desc", ""), rater(file), suffix(file)


def chosen_labels(files: list[Path], root: Path, problems: list[Problem]) -> list[Path]:
    """The labels, if they are of one kind; else a problem that names the kinds."""
    kinds: dict[tuple[str, ...], list[Path]] = {}
    for file in files:
        kinds.setdefault(kind_of(file, root), []).append(file)
    if len(kinds) > 1:  # the outline of a brain, of a skull-stripping, is no annotation
        kinds = {kind: some for kind, some in kinds.items() if kind[2] != "brain" or kind[1]} or kinds
    if len(kinds) > 1:
        some = "; ".join(f"{files[0].relative_to(root)} ({len(files)} such)" for files in kinds.values())
        problems.append(Problem(str(root / DERIVATIVES), f"several kinds of labels: {some}", CHOOSE))
    return [file for some in kinds.values() for file in some]


def by_session(files: list[Path], who: Collection[str], problems: list[Problem]) -> dict[str, Path]:
    """Session -> its label; a second one of a session is a problem, unless they are of several kinds anyway."""
    labels: dict[str, Path] = {}
    told = bool(problems)
    for file in files:
        session = session_of(file, who)
        if (other := labels.setdefault(session, file)) != file and not told:
            problems.append(Problem(str(file), f"{session} has another label, {other.name}", CHOOSE))
    return labels


def are_of_runs(files: list[Path], who: Collection[str]) -> bool:
    """Whether sessions have a label for each of several runs, so that a run is a case."""
    runs: dict[str, list[str]] = {}
    for file in files:
        runs.setdefault(session_of(file, who), []).append(entities(file).get("run", ""))
    several = [own for own in runs.values() if len(own) > 1]
    return bool(several) and all(all(own) and len(set(own)) == len(own) for own in runs.values())


def meaning(root: Path, files: list[Path], problems: list[Problem]) -> Labels:
    """What the values of the labels mean; empty where no table says so."""
    tables = sorted({table for file in files if (table := _table(file, root)) is not None})
    masks = [file for file in files if suffix(file) in MASKS or rater(file)]
    if masks and len(masks) == len(files) and not tables:
        found = entities(masks[0])
        word = suffix(masks[0]) if rater(masks[0]) and suffix(masks[0]) not in LABELS else ""
        called = found.get("label") or found.get("desc") or word
        if not called and suffix(masks[0]) == "seg":  # of how many classes, nothing says
            return Labels({})
        return Labels({"background": 0, called or "foreground": 1})
    named: dict[int, str] = {}
    for table in tables:
        with readable(table).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        for line, row in enumerate(rows, start=2):
            index, name = row.get("index"), as_it_was(row.get("name") or "")
            if not name or not str(index).isdigit() or int(str(index)) > 255:
                what = f"index {index!r}, name {row.get('name')!r}"
                problems.append(Problem(f"{table}:{line}", what, "expected the columns index (0 to 255) and name"))
            elif named.setdefault(int(str(index)), name) != name:
                what = f"{index} is {name} here and {named[int(str(index))]} elsewhere"
                problems.append(Problem(f"{table}:{line}", what, "a value means one thing in all tables"))
    if not named:
        return Labels({})
    named.setdefault(0, "background")
    if len(set(named.values())) < len(named):
        problems.append(Problem(str(root / DERIVATIVES), "two label values have one name", "correct the dseg.tsv"))
    return Labels({named[value]: value for value in sorted(named)})


def _table(label: Path, root: Path) -> Path | None:
    """The `dseg.tsv` that speaks of a label: the nearest whose entities are all the label's (BIDS' inheritance)."""
    own = entities(label).items()
    for folder in label.parents:
        fitting = [file for file in folder.glob("*dseg.tsv") if entities(file).items() <= own]
        if fitting and suffix(label) == "dseg":
            return max(fitting, key=lambda file: (len(entities(file)), file.name))
        if folder == root:
            break
    return None
