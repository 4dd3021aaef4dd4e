"""Who is held out in which fold: found once for a data set, then kept in the folder of the run."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np

from medseg.bundle.components import FOLDS_FILE
from medseg.bundle.facts import describe_data
from medseg.core.errors import ConfigError, DataError, Problem, RunError
from medseg.core.files import replace_file
from medseg.core.labels import Labels
from medseg.config.schema import Config
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import read_dataset
from medseg.data.cases.folds import Folds, find_patients, make_folds, read_folds
from medseg.data.files.images import label_values


def find_folds(config: Config) -> Folds:
    """The folds of `data.folds_file`, or made: stratified by class presence, grouped by patient.

    Raises:
        DataError: the file names unknown cases or divides a patient; labels cannot be read; too few patients.
    """
    data = config.data
    dataset = read_dataset(str(data.root), data.layout)
    names = [case.name for case in dataset.cases]
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        what = f"several cases are named {', '.join(repeated[:5])}"
        raise DataError(Problem(str(dataset.root), what, "folds need one name a case"))
    patients = find_patients(names, data.patient_pattern, data.patient_table, dataset.patients)
    if data.folds_file is not None:
        read = read_folds(data.folds_file, names, patients)
        if read.seed is not None:  # ours: what is to be known of its folds stands in it
            return read
    presence = class_presence(dataset.cases, describe_data(config).labels)
    if data.folds_file is not None:
        return read_folds(data.folds_file, names, patients, presence)
    return make_folds(presence, patients, data.folds, config.seed)


def keep_folds(config: Config, folder: Path, *, anew: bool = False) -> Folds:
    """The folds in the folder's `splits.json`; found and written if there are none yet.

    Args:
        anew: find them again and replace what is there.

    Raises:
        RunError: `data.folds_file` says otherwise than the folder's own file.
        DataError: as `find_folds`; the file names cases that the data set has no more.
    """
    if config.data.root is None:
        raise ConfigError("data.root: folds are of a data set, whose folder is not given", "add --set data.root=DIR")
    file = folder / FOLDS_FILE
    given = Path(config.data.folds_file).resolve() if config.data.folds_file else None
    if file.exists() and not anew:
        names = [case.name for case in read_dataset(str(config.data.root), config.data.layout).cases]
        kept = read_folds(file, names)
        if given is not None and given != file.resolve() and read_folds(given, names).folds != kept.folds:
            what = f"other folds than those that this run was begun with ({file})"
            raise RunError(Problem(str(given), what, "give --run DIR, or --restart to start anew"))
        return kept
    folds = find_folds(config)
    replace_file(file, folds.to_json())
    return folds


def class_presence(cases: tuple[Case, ...], labels: Labels) -> dict[str, frozenset[str]]:
    """Case -> its classes (without the background), from its label file.

    Raises:
        DataError: of all labels that cannot be read, at once.
    """

    def look(case: Case) -> frozenset[str] | list[Problem]:
        try:
            label = label_values(case.read_label(), labels.counts_as)
            counts = np.bincount(label.ravel(), minlength=256)
        except DataError as error:
            return list(error.problems)
        return frozenset(name for name, value in labels.classes.items() if value != labels.background and counts[value])

    with ThreadPoolExecutor(min(8, cpu_count() or 1)) as pool:
        found = list(pool.map(look, cases))
    if problems := [problem for result in found if isinstance(result, list) for problem in result]:
        raise DataError(problems)
    return {
        case.name: classes for case, classes in zip(cases, found, strict=True) if isinstance(classes, frozenset)
    }
