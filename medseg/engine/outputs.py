"""What stands where in a folder of results: masks by their writers, and in `medseg/` all that is medseg's own.

Beside masks stand masks only (and `volumes.csv`), so that other programs' evaluators and converters read the folder: a
sidecar `case.json` there would be taken for dcm2niix's or nnU-Net's own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem
from medseg.data.cases.case import Case
from medseg.data.writers import AUTO, OWN
from medseg.data.writers.base import own_writer, writers_of

FORMATS = (AUTO,)


def mask_paths(folder: str | Path, name: str, image: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Where the masks of a case are saved, one a format.

    Args:
        image: the (first) file of its image.
    """
    return [writer.file(Path(folder), name) for writer in writers_of(Path(image), formats)]


def map_path(folder: str | Path, name: str, image: str | Path, which: str) -> Path:
    """Where a map of a case is saved (`which`: see `inference.maps.map_names`), in the image's own format."""
    return own_writer(Path(image)).file(Path(folder) / OWN, f"{name}_{which}")


def sidecar_path(folder: str | Path, name: str) -> Path:
    """Where it is written down what made the mask of a case, and how much of each target was found."""
    return Path(folder) / OWN / f"{name}.json"


def read_sidecar(folder: str | Path, name: str) -> dict[str, Any]:
    """The sidecar of a case; empty where there is none, or a damaged one."""
    older = Path(folder) / f"{name}.json"  # once it stood beside the mask
    for path in (sidecar_path(folder, name), older):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            return content
    return {}


def pending_cases(
    cases: Sequence[Case],
    output_dir: str,
    overwrite: bool = False,
    maps: Sequence[str] = (),
    formats: Sequence[str] = FORMATS,
) -> list[Case]:
    """The cases without a mask, or one of the maps, in `output_dir` yet (all of them if `overwrite`).

    Raises:
        DataError: the maps of two cases would have one name.
    """
    named = Counter(f"{case.name}_{one}" for case in cases for one in maps)
    if clash := [name for name, times in named.items() if times > 1]:
        raise DataError(Problem(clash[0], "would be the name of two cases' maps", "rename one, or predict it alone"))

    def files(case: Case) -> list[Path]:
        own = [map_path(output_dir, case.name, case.first, one) for one in maps]
        return [*mask_paths(output_dir, case.name, case.first, formats), *own]

    return [case for case in cases if overwrite or not all(file.exists() for file in files(case))]
