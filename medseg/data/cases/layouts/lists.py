"""A CSV or TSV file, one line a case: `case`, `patient`, `image` (or `image_T1w`, `image_FLAIR`, ...) and `label`.

Paths are absolute or from the folder of the file; an image may be the folder, or the zip, of a DICOM study. Columns
`image_NAME` are the channels, in their order; an empty one is a channel that the case lacks. Without `case`, a case has
its first image's name; without a `label` in its line, it has none. Other columns (age, centre) are passed over.
"""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from medseg.core.errors import DataError, Problem, did_you_mean
from medseg.data.cases.case import UNSAFE_NAME, Case, is_name, name_of_channels
from medseg.data.cases.layouts.files import existing
from medseg.data.cases.layouts.layout import Found, Layout
from medseg.data.files.text import read_text

LISTS = (".csv", ".tsv")
EXPECTED = "expected image (or image_NAME, one a channel), label, and perhaps case and patient"


class CSVList(Layout):
    """The list is the data set."""

    expects = "a list of cases: a file .csv or .tsv with the columns image and label"

    def recognises(self, root: Path) -> bool:
        return root.name.lower().endswith(LISTS) and root.is_file()

    def find(self, root: Path) -> Found:
        found = read_list(root)
        found.name = root.stem
        return found


def read_list(path: Path) -> Found:
    """The cases of a list; what is wrong with a line is told with its number.

    Raises:
        DataError: the file cannot be read, or has no columns of images.
    """
    try:
        text = read_text(path)
        first = text.partition("\n")[0]
        delimiter = "\t" if "\t" in first else ";" if ";" in first else ","
        reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
        rows = [(reader.line_num, [entry.strip() for entry in row]) for row in reader]
    except csv.Error as error:
        raise DataError(Problem(str(path), f"cannot be read: {error}", "save it as CSV in UTF-8")) from None
    header = rows[0][1] if rows else []
    images = [name for name in header if name == "image" or name.startswith("image_")]
    if not images or len(set(header)) < len(header) or ("image" in images and len(images) > 1):
        raise DataError(Problem(f"{path}:1", f"has the columns {', '.join(header) or 'of nothing'}", EXPECTED))
    named = tuple(name.removeprefix("image_") for name in images) if images != ["image"] else ()
    found = Found(channels=named)
    if "label" not in header and (guess := did_you_mean("label", header)).startswith("did you mean"):
        found.problems.append(Problem(f"{path}:1", "has no column label", f"{guess} Call that column label"))
    lines: dict[str, int] = {}
    for number, entries in rows[1:]:
        if not any(entries):
            continue
        where = f"{path}:{number}"
        if len(entries) != len(header):
            what = f"{len(entries)} entries under {len(header)} columns"
            found.problems.append(Problem(where, what, "one entry a column; quote an entry that holds the separator"))
            continue
        row = dict(zip(header, entries, strict=True))
        if missing := [name for name in images if not row[name]]:
            problem = Problem(where, f"has no {', '.join(missing)}", "every case needs every channel")
            if len(missing) == len(images):
                found.problems.append(problem)
                continue
            found.incomplete.append(problem)
        case = row.get("case") or name_of_channels([path.parent / row[name] if row[name] else None for name in images])
        if not is_name(case):
            found.problems.append(Problem(where, f"the case is called {case!r}", UNSAFE_NAME))
            continue
        if case in lines:
            what = f"the case {case!r} is there twice, in line {lines[case]} too"
            found.problems.append(Problem(where, what, "give each line its own name in a column case"))
            continue
        lines[case] = number
        if "patient" in row and not row["patient"]:
            remedy = "every case needs a patient, so that none stands in two folds"
            found.problems.append(Problem(where, "names no patient", remedy))
        problems: list[Problem] = []
        paths = tuple(existing(path.parent / row[name], problems) if row[name] else None for name in images)
        label = existing(path.parent / row["label"], problems) if row.get("label") else None
        entry = Case(case, paths, label, row.get("patient") or None)
        (found.unlabelled if label is None else found.cases).append(entry)
        found.problems += [Problem(where, f"{problem.where}: {problem.what}", problem.remedy) for problem in problems]
    if not found.cases and not found.unlabelled and not found.problems:
        found.problems.append(Problem(str(path), "lists no case", "one line a case"))
    return found
