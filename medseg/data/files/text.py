"""Text files that people and other tools write: lists of cases in whatever Unicode."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from medseg.core.errors import DataError, Problem
from medseg.core.files import readable

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
LINE_ENDS = re.compile(r"\r\n|\r|\n")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 (as PowerShell and Excel write), with or without a byte-order mark.

    Raises:
        DataError: it cannot be read, or is neither.
    """
    try:
        content = readable(path).read_bytes()
    except OSError as error:
        raise DataError(Problem(str(path), f"unreadable list: {error.strerror}", "give a text file")) from None
    coding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    if coding == "utf-8" and b"\0" in content[:2]:  # UTF-16 without a mark: every other byte of plain letters is 0
        coding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        return content.decode(coding)
    except UnicodeDecodeError:
        raise DataError(Problem(str(path), "is no text in UTF-8 or UTF-16", "save the list as UTF-8")) from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, without blanks around them, each with its number from 1; errors as `read_text`."""
    lines = enumerate(LINE_ENDS.split(read_text(path)), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]
