"""Why a library could not read a file, in words that hold nothing of what stands in the file."""

from __future__ import annotations

import re

QUOTED = re.compile(r"""(?<!\w)b?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")  # no apostrophe inside a word
LONGEST = 200


def cause(error: BaseException) -> str:
    """The error in one line, without what it quotes: that may be text of a header, which may name the patient.

    ITK repeats lines of a header without quotes, amid places in its own source; of its errors nothing is repeated.
    """
    text = " ".join(str(error).split())
    if "SimpleITK" in text or "ITK ERROR" in text.upper():
        return "ITK cannot decode it"
    said = QUOTED.sub("...", text).strip()
    return said[:LONGEST] if any(letter.isalpha() for letter in said) else type(error).__name__
