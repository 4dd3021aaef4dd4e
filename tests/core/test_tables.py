"""Tables: no cell is computed by a spreadsheet, numbers stay numbers, and what was written is what is read."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from medseg.core.tables import read_table, write_table

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", " =1", "\uff1d1", "\n=1")
BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_begins_as_a_formula(tmp_path: Path, text: str) -> None:
    rows = [{"case": text, text: 0.5}, {"case": f"a,{text}", text: None}]
    write_table(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.strip("\n ").startswith((*BEGINNINGS, "\uff1d"))]
    assert read_table(tmp_path / "a.csv") == [{"case": text, text: "0.5"}, {"case": f"a,{text}", text: ""}]


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    numbers = [-1.5, np.float64(-0.1), np.float32(-2.5), -3, np.int64(-4), 1e-17, float(1 / 3)]
    write_table(tmp_path / "a.csv", [{"value": number} for number in numbers])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert [float(line) for line in lines[1:]] == numbers
    assert lines[1:5] == ["-1.5", "-0.1", "-2.5", "-3"]


def test_a_plain_table_is_what_the_csv_module_writes(tmp_path: Path) -> None:
    rows = [{"case": "a b", "dice": 0.25, "n": 3, "state": None}, {"case": 'x,"y"', "more": "Über\nzwei"}]
    write_table(tmp_path / "a.csv", rows)
    with (tmp_path / "b.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["case", "dice", "n", "state", "more"])
        writer.writeheader()
        writer.writerows(rows)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_any_text_comes_back(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    letters = list("'=+-@\t\r\n \",;aé\uff1d0")
    texts = ["".join(random.choice(letters, random.integers(0, 6))) for _ in range(2000)]
    rows = [{"one": one, "other": other} for one, other in zip(texts[::2], texts[1::2], strict=True)]
    write_table(tmp_path / "a.csv", rows)
    assert read_table(tmp_path / "a.csv") == rows


def test_a_semicolon_divides_no_cell(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", [{"case": "a;=1+1"}])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file, delimiter=";"))[1] == ["a;=1+1"]


def test_only_one_place_writes_tables() -> None:
    import medseg

    files = Path(medseg.__file__).parent.rglob("*.py")
    writers = [file.name for file in files if re.search(r"csv\.writer|DictWriter", file.read_text(encoding="utf-8"))]
    assert not writers, f"{writers}: write_table escapes what a spreadsheet would compute"
