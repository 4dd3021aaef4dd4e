"""Tables as CSV files: the one writer of all that medseg writes, safe to open in a spreadsheet, and its reader.

A spreadsheet computes a cell that begins with = + - or @, and so runs what a stranger called a file or a class. Such a
text gets an apostrophe in front, which a spreadsheet takes for "this is text"; so does one that begins like a text that
got one, so that the reader can undo it. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.core.files import readable, replacing

FORMULA = re.compile(r"'*[\s\0]*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")  # full-width signs are computed too
DIVIDES = re.compile(r'[",;\t\r\n]')  # some spreadsheets divide at semicolons or tabs; not within quotes


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Iterable[str] | None = None) -> None:
    """Write a row for each mapping, UTF-8; None, and what a row lacks, is empty. The file appears whole or not at all.

    Args:
        columns: their names in order; default: as they come in the rows.
    """
    names = list(dict.fromkeys(name for row in rows for name in row) if columns is None else columns)
    cells: list[Sequence[Any]] = [names, *([row.get(name) for name in names] for row in rows)]
    with replacing(path) as writing, writing.open("w", newline="", encoding="utf-8") as file:
        file.writelines(map(_line, cells))


def tab_separated(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The same as text, divided by tabs and with Unix' ends of lines, as BIDS has its tables."""
    cells = [columns, *([row.get(name) for name in columns] for row in rows)]
    return "".join("\t".join(_quoted(_cell(cell)) for cell in line) + "\n" for line in cells)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows that `write_table` wrote, every cell as text.

    Raises:
        OSError, UnicodeDecodeError, csv.Error: it cannot be read.
    """
    with readable(path).open(newline="", encoding="utf-8") as file:
        names, *rows = [[as_it_was(cell) for cell in cells] for cells in csv.reader(file) if cells] or [[]]
    return [dict(zip(names, cells, strict=False)) for cells in rows]


def read_columns(path: Path) -> list[str]:
    """The names of the columns of a table; none of a file that is missing, or no table."""
    try:
        with readable(path).open(newline="", encoding="utf-8") as file:
            return [as_it_was(cell) for cell in next(csv.reader(file), [])]
    except (OSError, ValueError, csv.Error):
        return []


def _line(cells: Iterable[Any]) -> str:
    return ",".join(_quoted(_cell(cell)) for cell in cells) + "\r\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else str(value)


def as_it_was(cell: str) -> str:
    """A cell without the apostrophe that the writer put in front of it."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if DIVIDES.search(cell) else cell
