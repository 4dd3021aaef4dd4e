"""What stands where in a folder of results: masks by their writers, and in `medseg/` all that is medseg's own.

Beside masks stand masks only (and `volumes.csv`), so that other programs' evaluators and converters read the folder: a
sidecar `case.json` there would be taken for dcm2niix's or nnU-Net's own.

Once everything stood beside the masks. Such outputs are read as before, and each goes when it is written anew.
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
    return _sidecar(sidecar_path(folder, name)) or _sidecar(_older_sidecar(folder, name))


def _sidecar(path: Path) -> dict[str, Any]:
    """Its content; empty where the file is missing, damaged, or another program's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and {"case", "model"} <= content.keys() else {}


def _older_sidecar(folder: str | Path, name: str) -> Path:
    return Path(folder) / f"{name}.json"


def remove_older_sidecar(folder: str | Path, name: str) -> None:
    """Delete the sidecar that an older version wrote beside the mask, if there is one; no other program's."""
    older = _older_sidecar(folder, name)
    if _sidecar(older):
        older.unlink()


def remove_older_map(folder: str | Path, name: str, image: str | Path, which: str) -> None:
    """Delete the map that an older version wrote beside the mask.

    It is one where the case still has its older sidecar, and no case of the map's name has a mask there.
    """
    if _sidecar(_older_sidecar(folder, name)) and not read_sidecar(folder, f"{name}_{which}"):
        own_writer(Path(image)).file(Path(folder), f"{name}_{which}").unlink(missing_ok=True)


def remove_older_table(folder: Path, name: str, header: str) -> None:
    """Delete the table that an older version wrote beside the masks, by its name and its first line.

    Args:
        folder: of what is medseg's own; any other has no older one.
    """
    older = folder.parent / name
    if folder.name != OWN or not older.is_file():
        return
    with older.open(encoding="utf-8", errors="replace") as file:
        ours = file.readline().strip() == header
    if ours:
        older.unlink()


def pending_cases(
    cases: Sequence[Case],
    output_dir: str,
    overwrite: bool = False,
    maps: Sequence[str] = (),
    formats: Sequence[str] = FORMATS,
) -> list[Case]:
    """The cases without a mask, its sidecar or one of the maps in `output_dir` yet (all of them if `overwrite`).

    The sidecar is written last: a case without it was interrupted.

    Raises:
        DataError: the maps of two cases would have one name.
    """
    named = Counter(f"{case.name}_{one}" for case in cases for one in maps)
    if clash := [name for name, times in named.items() if times > 1]:
        raise DataError(Problem(clash[0], "would be the name of two cases' maps", "rename one, or predict it alone"))

    def files(case: Case) -> list[Path]:
        own = [map_path(output_dir, case.name, case.first, one) for one in maps]
        return [*mask_paths(output_dir, case.name, case.first, formats), *own]

    def done(case: Case) -> bool:
        return all(file.exists() for file in files(case)) and bool(read_sidecar(output_dir, case.name))

    return [case for case in cases if overwrite or not done(case)]
