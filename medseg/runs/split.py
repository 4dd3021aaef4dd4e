"""The split of a run, as its folder keeps it."""

from __future__ import annotations

from medseg.bundle.components import split_rules
from medseg.bundle.facts import config_dataset
from medseg.bundle.trained import Trained
from medseg.core.errors import Problem, RunError
from medseg.data.cases.dataset import Dataset
from medseg.data.splits.folds import FOLDS_FILE
from medseg.data.splits.split import SPLIT_FILE, Split, decide_split, read_split

FILES = "files.json"  # see runs/files.py


def run_split(run: Trained, dataset: Dataset | None = None, *, anew: bool = False) -> Split:
    """The split that the run has stored; of a new run, and of one from before splits were stored, that of its rules.

    Args:
        dataset: that of the run; default: it is read where nothing is stored.
        anew: by the rules, whatever is stored.

    Raises:
        DataError: the data set does not fit the rules.
        RunError: the stored split is damaged, or gone.
    """
    if not anew and (run.folder / SPLIT_FILE).is_file():
        return read_split(run.folder / SPLIT_FILE)
    if not anew and (run.folder / FILES).is_file():
        remedy = "bring the file back from a copy of the run: which cases were trained on stands only there"
        raise RunError(Problem(str(run.folder / SPLIT_FILE), "is missing", remedy))
    rules = split_rules(run.config)
    folds = run.folder / FOLDS_FILE
    if not anew and "fold" in rules and folds.is_file():  # once, a fold kept all folds beside its bundle
        rules["folds_file"] = folds
    return decide_split(dataset or config_dataset(run.config), labels=run.facts.labels, **rules)
