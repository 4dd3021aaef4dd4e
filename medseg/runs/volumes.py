"""The volumes of a cohort of masks: a table of one row a case, from their sidecars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from medseg.core.tables import read_columns, read_table, write_table
from medseg.engine.sidecar import read_sidecar

VOLUMES = "volumes.csv"
CASE = "case"  # its first column
SHOWN = 20  # cases that are printed one by one; the file has all of them

Volumes = Mapping[str, Mapping[str, float]]
"""Case -> target (a class or a region) -> ml."""


def read_volumes(folder: Path, cases: Sequence[str]) -> dict[str, dict[str, float]]:
    """The volumes of the cases that have a sidecar with volumes in `folder` (those of pictures have shares)."""
    found = {}
    for case in cases:
        if volumes := read_sidecar(folder, case).get("volume_ml"):
            found[case] = {name: float(ml) for name, ml in volumes.items()}
    return found


def write_volumes(volumes: Volumes, folder: Path) -> Path:
    """`volumes.csv`: the case, and a column `TARGET_ml` a target; rows of other cases that are there already stay."""
    file = folder / VOLUMES
    before = read_table(file) if is_volumes(file) else []
    rows: dict[str, Mapping[str, Any]] = {row[CASE]: row for row in before}
    for case, found in volumes.items():
        rows[case] = {CASE: case} | {f"{name}_ml": ml for name, ml in found.items()}
    columns = [CASE, *(f"{name}_ml" for name in _targets(volumes))]
    write_table(file, list(rows.values()), dict.fromkeys([*(read_columns(file) if before else ()), *columns]))
    return file


def is_volumes(file: Path) -> bool:
    """Whether the file is such a table."""
    columns = read_columns(file)
    return columns[:1] == [CASE] and all(name.endswith("_ml") for name in columns[1:])


def volume_text(volumes: Volumes) -> str:
    """A table: the first cases, then over all of them the median, the range, and in how many a target was found."""
    names = _targets(volumes)
    columns = {name: [found.get(name, 0.0) for found in volumes.values()] for name in names}
    rows = [[case, *(f"{found.get(name, 0.0):.2f}" for name in names)] for case, found in volumes.items()][:SHOWN]
    if len(volumes) > SHOWN:
        rows.append([f"... {len(volumes) - SHOWN} more in {VOLUMES}", *("" for _ in names)])
    if len(volumes) > 1:
        rows.append(["median", *(f"{median(values):.2f}" for values in columns.values())])
        rows.append(["range", *(f"{min(values):.2f}-{max(values):.2f}" for values in columns.values())])
        rows.append(["cases with it", *(str(sum(ml > 0 for ml in values)) for values in columns.values())])
    table = [["volume in ml", *names], *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in table
    )


def _targets(volumes: Volumes) -> list[str]:
    return list(dict.fromkeys(name for found in volumes.values() for name in found))
