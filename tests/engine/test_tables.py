"""Every table that medseg writes, with names of cases and targets that a spreadsheet would compute."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import Problem
from medseg.core.labels import Labels
from medseg.core.tables import read_table
from medseg.engine.cohort import write_failures
from medseg.engine.tally import write_benchmark
from medseg.metrics.benchmarks import Benchmark, Tally
from medseg.metrics.lesions import LesionScore, write_lesions
from medseg.metrics.score import CaseScore
from medseg.metrics.summary import BenchmarkTable
from medseg.metrics.table import MetricsTable
from medseg.runs.volumes import write_volumes

NAMES = ("=1+1", "+1", "-2+3", '=HYPERLINK("http://x", "y")', "=a,b", "-")


def metrics(name: str, folder: Path) -> None:
    score = CaseScore(name, name, "scored", {"dice": 0.5, "hd95_mm": -1.5}, 1.0, -1.5, 2.0, 1, 1, 1)
    MetricsTable([score]).write(folder)


def lesions(name: str, folder: Path) -> None:
    write_lesions([LesionScore(name, name, 1, 1, 0, -1.5)], folder)


def benchmark(name: str, folder: Path) -> None:
    scored = Benchmark(Labels({name: 0, "other": 1}), "voc")
    tally = Tally(np.eye(len(scored.values), dtype=np.int64), None, 1)
    write_benchmark(BenchmarkTable(scored, tally), {name: tally}, folder)


def failures(name: str, folder: Path) -> None:
    write_failures(folder, [Problem(name, name)])


def volumes(name: str, folder: Path) -> None:
    write_volumes({name: {name: -1.5}}, folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [metrics, lesions, benchmark, failures, volumes])
def test_no_table_begins_a_cell_as_a_formula(write: Callable[[str, Path], None], name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    (table,) = tmp_path.glob("*.csv")
    with table.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert f"'{name}" in cells
    assert {cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))} <= {"-1.5"}, "but numbers"
    first = read_table(table)[0]
    assert name in first.values()
    if write is volumes:
        assert first == {"case": name, f"{name}_ml": "-1.5"}
