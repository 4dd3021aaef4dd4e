"""`medseg check`: look at every case of a data set before the expensive part starts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from medseg.config.cards import load_card
from medseg.core.errors import DataError, Problem
from medseg.core.files import absolute
from medseg.core.labels import Labels
from medseg.core.parallel import in_threads
from medseg.data.cases.across import across
from medseg.data.cases.case import Case, channel_of
from medseg.data.cases.dataset import Dataset, find_dataset
from medseg.data.cases.inspection import Finding, inspect_case
from medseg.data.cases.unnamed import channel_names, found_classes
from medseg.data.files.dicom import called_as_patient, is_study
from medseg.data.files.spacing import SAY_IT
from medseg.data.splits.apart import REMEDY as APART
from medseg.data.splits.apart import in_both
from medseg.data.splits.split import OFFICIAL, TEST
from medseg.review.check_report import CheckReport
from medseg.runs.official import wrong_sizes

SAY_KEY = "say the right one, for all files: data.spacing_mm in a config (medseg plan --set data.spacing_mm=[x,y,z])"


def check(root: str | Path, *, layout: str = "auto", card: str | None = None, progress: bool = True) -> CheckReport:
    """Read every image and label of a data set and report all that is wrong with it at once.

    A missing or damaged file never hides the findings in other cases.

    Args:
        card: name of a card in `datasets/` that says what the labels mean; else where the data set does not, each value
            that is found in them is a class, as for `medseg plan`.

    Raises:
        ConfigError: there is no card, or no layout, of that name.
        DataError: the folder is missing or has no readable `dataset.json`, so there is nothing to look at.
    """
    root = Path(root)
    start = time.monotonic()
    dataset, problems = find_dataset(root, layout)
    findings = [_of_dataset(problem, dataset) for problem in problems]
    if card is not None:
        described = load_card(card)
        dataset = replace(dataset, labels=described.labels, channels=described.channels)
        for problem in wrong_sizes(described, dataset):
            findings.append(
                Finding("warning", "not the whole data set", "", problem.where, problem.what, problem.remedy)
            )
    else:
        dataset = replace(dataset, channels=channel_names(dataset))
        if not dataset.labels.classes and dataset.cases:
            classes, ignored = found_classes(dataset)
            dataset = replace(dataset, labels=Labels(classes, ignore_index=ignored))
    cases = sorted((*dataset.cases, *dataset.unlabelled), key=lambda case: case.name)
    look = partial(inspect_case, channels=dataset.channels, labels=dataset.labels)
    looking = in_threads(look, cases)
    facts = tuple(tqdm(looking, "checking", len(cases), unit="case", disable=None if progress else True, leave=False))
    findings += [finding for case in facts for finding in case.findings]
    pictures = any(case.is_picture for case in cases)
    findings += across(facts, pictures=pictures)
    findings += _in_two_lists(dataset)
    findings += [finding for case in cases for finding in _named_as_patient(case, root)]
    findings = [replace(finding, remedy=finding.remedy.replace(SAY_IT, SAY_KEY)) for finding in findings]
    return CheckReport(dataset, facts, tuple(findings), time.monotonic() - start)


def _of_dataset(problem: Problem, dataset: Dataset) -> Finding:
    """A finding of `data.cases` about `dataset.json` or about a file that is not there."""
    path = Path(problem.where)
    if problem.what != "no such file":
        return Finding("error", "dataset.json and the folder disagree", "", path.name, problem.what, problem.remedy)
    cases = (*dataset.cases, *dataset.unlabelled)
    named = (channel_of(path) or (None,))[0]
    owners = (c for c in cases if str(absolute(path)) in c.files or (c.missing and c.name == named))
    name = next((case.name for case in owners), "")
    place = os.path.relpath(path, dataset.root)
    return Finding("error", "missing file", name, place, problem.what, problem.remedy)


def _named_as_patient(case: Case, root: Path) -> Iterator[Finding]:
    """A file or folder of a DICOM series is called as the patient: names are in every output."""
    for folder in (Path(path) for path in case.there if is_study(Path(path))):
        with contextlib.suppress(DataError):  # what cannot be read is a finding already
            for name, what in called_as_patient(folder.absolute(), root.absolute()).items():
                remedy = "masks, tables and reports show the names of files and folders: rename it"
                yield Finding("warning", "name of a patient", case.name, name, f"is the {what} inside", remedy)


def _in_two_lists(dataset: Dataset) -> Iterator[Finding]:
    """An image that is trained on is held out too, by the lists that a config takes unless it names others."""
    training, validation = OFFICIAL["training"], OFFICIAL["validation"]
    for one, other in ((training, validation), (training, TEST), (validation, TEST)):
        for name in in_both(dataset.splits.get(one, ()), dataset.splits.get(other, ())):
            where = f"in {one} and in {other}"
            yield Finding("warning" if other == TEST else "error", "image in two lists", name, "", where, APART)
