"""The folder of a cross-validation: its folds, each of them a run of its own, and who is held out in which.

runs/brain/  splits.json  fold_0/ ... fold_4/  cache/  eval/  report.html  postprocessing.json
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from medseg.bundle.components import fold_rules
from medseg.bundle.facts import config_dataset, describe_data
from medseg.config.schema import Config
from medseg.core.errors import DataError, Problem, RunError
from medseg.core.files import readable, replace_file
from medseg.core.written import is_known
from medseg.data.cases.dataset import Dataset
from medseg.data.splits.folds import FOLDS_FILE, NNUNET_FILE, Folds, find_folds, read_folds
from medseg.engine.places import Place, check_places
from medseg.runs.folder import CONFIG

FOLD = re.compile(r"fold_(0|[1-9][0-9]*)")


def config_folds(config: Config, dataset: Dataset) -> Folds:
    """The folds that the config asks for: of `data.folds_file`, or made; raises DataError as `find_folds`."""
    return find_folds(dataset, describe_data(config, dataset).labels, **fold_rules(config))


def keep_folds(config: Config, folder: Path, dataset: Dataset | None, *, anew: bool = False) -> Folds:
    """The folds in the folder's `splits.json`; found and written if there are none yet, for nnU-Net too.

    Args:
        dataset: None, where there is a file: whether the data still have its cases is asked by each fold.
        anew: find them again and replace what is there.

    Raises:
        RunError: `data.folds_file` says otherwise than the folder's own file.
        DataError: as `find_folds`; the file names cases that the data set has no more; a file for nnU-Net would be
            replaced that medseg did not write.
    """
    file = folder / FOLDS_FILE
    given = Path(config.data.folds_file).resolve() if config.data.folds_file else None
    if file.exists() and not anew:
        names = None if dataset is None else [case.name for case in dataset.cases]
        kept = read_folds(file, names)
        if given is not None and given != file.resolve() and read_folds(given, names).folds != kept.folds:
            what = f"other folds than those that this run was begun with ({file})"
            raise RunError(Problem(str(given), what, "give --run DIR, or --restart to start anew"))
        if not (folder / NNUNET_FILE).exists():
            replace_file(folder / NNUNET_FILE, kept.to_nnunet())
        return kept
    check_nnunet_file(folder)
    folds = config_folds(config, dataset or config_dataset(config))
    (folder / NNUNET_FILE).unlink(missing_ok=True)  # of other folds; what is not there is made again
    replace_file(file, folds.to_json())
    replace_file(folder / NNUNET_FILE, folds.to_nnunet())
    return folds


def check_nnunet_file(folder: Path) -> None:
    """Raise a DataError where nnU-Net's file of folds is not as medseg wrote it: somebody else's, or changed since."""
    file = folder / NNUNET_FILE
    ours = is_known(folder, file) or _is_of_own(file, folder / FOLDS_FILE)
    check_places([Place(file, folder, "the folds", folder, ours)], remedy="move it away")


def _is_of_own(file: Path, own: Path) -> bool:
    """Whether nnU-Net's file has the folds of our own beside it, as older versions wrote it, which kept no account."""
    try:
        content: object = json.loads(readable(file).read_text(encoding="utf-8"))
        return bool(content == json.loads(read_folds(own, None).to_nnunet()))
    except (OSError, ValueError, DataError):
        return False


def fold_runs(run: Path) -> list[Path]:
    """The runs of the folds in a folder, in their order; none if it is no folder of folds."""
    if not (run / FOLDS_FILE).is_file() or (run / CONFIG).exists():
        return []
    return [folder for folder in fold_folders(run) if (folder / "models" / "model.pt").is_file()]


def fold_folders(run: Path) -> list[Path]:
    """The folders of the folds, trained or not, in their order; no copy such as `fold_0_backup`."""
    found = {int(match[1]): folder for folder in run.glob("fold_*") if (match := FOLD.fullmatch(folder.name))}
    return [found[number] for number in sorted(found)]


def all_fold_runs(run: Path) -> list[Path]:
    """As `fold_runs`, where every fold has to be there.

    Raises:
        RunError: it is no folder of folds, or one is not trained yet.
    """
    runs = fold_runs(run)
    if not runs:
        raise RunError(f"{run}: holds no trained fold", "give the folder of a `medseg train --fold all`")
    wanted = len(read_folds(run / FOLDS_FILE, None).folds)
    if len(runs) < wanted:
        missing = sorted({f"fold_{n}" for n in range(wanted)} - {folder.name for folder in runs})
        raise RunError(f"{run}: not trained yet: {', '.join(missing)}", "medseg train --fold all goes on with them")
    return runs
