"""What in the folder of an evaluation, a run or a bundle is not medseg's: asked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from medseg.bundle.write import DESCRIPTION, KINDS
from medseg.config.finder import FINDER
from medseg.config.schema import Config
from medseg.core.errors import Problem, RunError
from medseg.core.files import WRITING, readable
from medseg.core.lock import LOCK
from medseg.core.written import WRITTEN, is_changed
from medseg.data.splits.folds import FOLDS_FILE
from medseg.data.splits.split import SPLIT_FILE
from medseg.engine.cohort import FAILURES, is_failures
from medseg.engine.places import Place, check_places
from medseg.engine.sidecar import foreign_files, has_sidecars

REPORT = "report.html"
TABLES = ("metrics.json", "metrics.csv", "lesions.json", "lesions.csv", FAILURES, REPORT)
MASKS = ("masks", "masks_raw")
BUNDLE = (*(f"configs/{kind}.yaml" for kind in KINDS), "configs/metadata.json", "configs/logging.conf")
OF_BUNDLE = tuple(f"{stage}{name}" for stage in ("", f"{FINDER}/") for name in (*BUNDLE, *DESCRIPTION))
"""Files of a bundle that people may change: those of its first stage too."""
COMPILED = "# Compiled by medseg"
NOT_OURS = "holds files that are not medseg's"
PASSING = (WRITING, LOCK, WRITTEN)  # how names begin of files that say nothing of a folder


def check_evaluation(output: Path, *, masks: bool = True) -> None:
    """Raise a RunError where an evaluation would replace what medseg did not write.

    Args:
        output: its folder.
        masks: those in it will be replaced all together.
    """
    for folder in (output / name for name in MASKS if masks):
        if foreign := foreign_files(folder):
            raise RunError(Problem(str(folder), f"{NOT_OURS}, as {foreign[0].name}", "give another --output DIR"))
    ours = is_evaluation(output)
    places = [
        Place(
            output / name, output, "the evaluation", output, ours or (name == FAILURES and is_failures(output / name))
        )
        for name in TABLES
    ]
    links = [Place(output / name / "*", output / name, "the masks", output) for name in MASKS]
    check_places([*places, *links], error=RunError)


def is_evaluation(folder: Path) -> bool:
    """Whether the folder has the table of an evaluation, or masks of one that did not come to an end."""
    content = _json(folder / "metrics.json")
    table = isinstance(content, dict) and {"scores", "mean_iou_of_cases"} & content.keys()
    return bool(table) or any(has_sidecars(folder / name) for name in MASKS)


def check_bundle(output: Path) -> None:
    """Raise a RunError where a bundle would replace files of a folder that is no bundle of medseg, or changed ones.

    A description that somebody has changed is no obstacle: it stays as it is (`write_bundle`).
    """
    for folder in (output, output / FINDER):
        ours = is_bundle(folder)
        described = [name for name in DESCRIPTION if not is_changed(output, folder / name)]
        files = [folder / name for name in (*BUNDLE, *described, SPLIT_FILE)]
        check_places([Place(file, file.parent, "the bundle", output, ours) for file in files], error=RunError)


def is_bundle(folder: Path) -> bool:
    """Whether medseg compiled a bundle in the folder; one of its files is enough, as when it is not whole yet."""
    return any(_is_compiled(folder / "configs" / f"{kind}.yaml") for kind in KINDS)


def _is_compiled(file: Path) -> bool:
    try:
        head = readable(file).read_text(encoding="utf-8")[:500]
    except (OSError, ValueError):
        return False
    return any(line.startswith(COMPILED) for line in head.splitlines())


def check_run(run: Path, config: str) -> None:
    """Raise a RunError where a training would write into, or remove, what is no run of medseg.

    Args:
        config: the name of a run's config.
    """
    remedy = "choose another with --run DIR"
    if not run.is_dir():
        return
    names = [file.name for file in run.iterdir() if not file.name.startswith(PASSING)]
    if names and config not in names:
        raise RunError(f"{run}: this folder exists and is no run of medseg", remedy)
    if names and not is_config(run / config):
        raise RunError(Problem(str(run / config), "is no config of medseg, so this folder is no run of it", remedy))


def check_results(run: Path, *, bundled: bool = False) -> None:
    """Raise a RunError where what a training ends with would replace what medseg did not write, or changed files.

    Args:
        run: the folder of a run, or of folds, which may not be there yet.
        bundled: it becomes a bundle too.
    """
    if bundled and is_bundle(run):
        check_bundle(run)
    check_places([Place(run / REPORT, run, "the report", run, ours=True)], error=RunError, remedy="move it away")
    if (run / "eval").is_dir():
        check_evaluation(run / "eval", masks=False)


def check_folds(run: Path) -> None:
    """Raise a RunError where the folds of a training would stand in a folder that is something else."""
    if not run.is_dir() or (run / FOLDS_FILE).is_file():
        return
    names = [file.name for file in run.iterdir() if not file.name.startswith(PASSING)]
    if any(not name.startswith("fold_") and name != "cache" for name in names):
        raise RunError(f"{run}: this folder exists and holds no folds of medseg", "choose another with --run DIR")


def is_config(file: Path) -> bool:
    """Whether the file looks like an experiment of this version or another: sections of one, and a name."""
    try:
        content = yaml.safe_load(readable(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "name" in content and len(Config.model_fields.keys() & content.keys()) > 1


def check_decision(folders: Sequence[Path], name: str, schema: str) -> None:
    """Raise a RunError where `medseg postprocess` would replace another program's file of the same name."""
    places = []
    for folder in folders:
        content = _json(folder / name)
        ours = (
            isinstance(content, dict) and str(content.get("schema", "")).partition("/")[0] == schema.partition("/")[0]
        )
        places.append(Place(folder / name, folder, "the decision", folder, ours))
    check_places(places, error=RunError, remedy="move it away")


def _json(file: Path) -> Any:
    try:
        return json.loads(readable(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
