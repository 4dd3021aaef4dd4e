"""Who the patients are whose cases stay together: by a pattern in the names, by a table, or as the data set says."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.core.errors import DataError, Problem, listed
from medseg.core.files import readable
from medseg.core.patterns import search_all

TABLES = ("patients.csv", "patients.tsv")  # where a data set says who its patients are


def find_patients(
    cases: Sequence[str], pattern: str | None, table: str | None, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Case -> patient by a pattern or a table, else as the data set says (`known`); empty where nothing says so.

    Raises:
        DataError: cases whose name the pattern does not match, or that the table does not list.
    """
    who = said_patients(cases, pattern, table, known)
    missing = [case for case in cases if case not in who]
    where = "patient_pattern" if pattern is not None else table
    if where is not None and missing:
        what = f"says of {len(missing)} cases no patient: {listed(missing)}"
        raise DataError(Problem(where, what, "every case needs a patient, so that none stands in two folds"))
    return who


def said_patients(
    cases: Sequence[str], pattern: str | None, table: str | None, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """As `find_patients`, without the cases of which nothing says who the patient is."""
    if pattern is not None:
        found = zip(cases, search_all(pattern, cases, "patient_pattern"), strict=True)
        return {case: patient for case, patient in found if patient}
    who = known or {} if table is None else _read_table(Path(table))
    return {case: who[case] for case in cases if case in who}


def found_table(root: Path, cases: Sequence[str]) -> tuple[Path | None, str]:
    """The table of patients that lies in a data set's folder, and why it is taken, or why not; empty: there is none.

    Taken is the first of `TABLES` that is there, if it says of every case who the patient is.
    """
    path = next((root / name for name in TABLES if (root / name).is_file()), None)
    if path is None:
        return None, ""
    try:
        people = set(find_patients(cases, None, str(path)).values())
    except DataError as error:
        return None, f"{path.name} is not taken: it {error.problems[0].what}"
    return path, f"{path.name} lies with the data: {len(people)} patients"


def _read_table(path: Path) -> dict[str, str]:
    try:
        with readable(path).open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter="\t" if "\t" in first else ";" if ";" in first else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(Problem(str(path), f"cannot be read: {error}", "patient_table is a CSV file")) from None
    if not rows or not {"case", "patient"} <= set(rows[0]):
        got = ", ".join(map(str, rows[0])) if rows else "nothing"
        raise DataError(Problem(str(path), f"has the columns {got}", "expected the columns case and patient"))
    return {row["case"]: row["patient"] for row in rows if row["case"] and row["patient"]}
