"""Headers of NRRD and MetaImage that ITK's readers would not survive: text that anybody may have written.

A number of axes that none of their arrays holds, or a line longer than their buffers, ends the process (found in
SimpleITK 2.5 by `tests/campaign`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.core.files import readable

NRRD = b"NRRD"
LONGEST = 500  # bytes of a line that is no remark; teem copies what it cannot read into 1,024 with its complaint
LONGEST_NAME = 200  # bytes of `Name` in a MetaImage, for which ITK has 255
DIMENSIONS = range(1, 11)  # of a MetaImage
FIELD = re.compile(rb"\s*(?P<key>\w+)\s*[=:](?P<value>[^\r\n]*)")


def itk_reader(path: Path) -> str:
    """The name of the ITK reader for this file.

    Raises:
        DataError: its header would end the process. Nothing of it is repeated, as it may name the patient.
        OSError: it cannot be read.
    """
    with readable(path).open("rb") as file:
        nrrd = file.read(len(NRRD)) == NRRD
        file.seek(0)
        why = _nrrd_fault(file) if nrrd else _meta_fault(file)
    if why:
        raise DataError(Problem(str(path), f"unreadable image: {why}", "replace the file, or remove the case"))
    return "NrrdImageIO" if nrrd else "MetaImageIO"


def _nrrd_fault(lines: Iterator[bytes]) -> str | None:
    """Keys and values (`:=`), remarks and `content` may be long."""
    for line in lines:
        if not line.strip():
            return None
        free = line.startswith((b"#", b"content:")) or b":=" in line
        if len(line) > LONGEST and not free:
            return "its header has a line without end"
    return None


def _meta_fault(lines: Iterator[bytes]) -> str | None:
    for line in lines:
        found = FIELD.match(line)
        key, value = (found["key"], found["value"].strip()) if found else (b"", b"")
        if key == b"ElementDataFile":
            return None
        if key == b"NDims" and not (value.isdigit() and len(value) < 3 and int(value) in DIMENSIONS):
            return "its header has no number of axes between 1 and 10"
        if (key == b"Name" and len(value) > LONGEST_NAME) or (len(line) > LONGEST and key != b"Comment"):
            return "its header has a line without end"
    return None
