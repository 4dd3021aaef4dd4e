"""A user's regular expression, which may take for ever: `(a+)+$` on thirty letters does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from medseg.core.errors import ConfigError, Problem

SECONDS = 20.0  # for all names together; one that ends takes milliseconds
REPEATS = re.compile(r"[*+{?|]")
SEARCH = """
import json, re, sys
pattern, texts = json.load(sys.stdin)
found = [re.search(pattern, text) for text in texts]
json.dump([one and one[min(1, one.re.groups)] for one in found], sys.stdout)
"""


def fault_of(pattern: str) -> str | None:
    """Why a text is no regular expression; None: it is one."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error) or type(error).__name__
    return None


def search_all(pattern: str, texts: Sequence[str], key: str) -> list[str | None]:
    """What the pattern finds in each text: its first group, if it has one; None: nothing.

    One that repeats or chooses twice or more may try very many ways (to backtrack), and nothing stops it inside this
    process: it is searched for in one of its own, which has `SECONDS`.

    Args:
        key: what gives the pattern, for the message.

    Raises:
        ConfigError: it takes longer.
    """
    if len(REPEATS.findall(pattern)) < 2 or not sys.executable:
        found = [re.search(pattern, text) for text in texts]
        return [None if one is None else one[min(1, one.re.groups)] for one in found]
    command, given = [sys.executable, "-I", "-S", "-c", SEARCH], json.dumps([pattern, list(texts)])
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=SECONDS, check=True)
    except subprocess.TimeoutExpired:
        what = f"{pattern!r} takes more than {SECONDS:g} s to search {len(texts)} names"
        remedy = "repeat nothing that is repeated inside, as in (a+)+: say ([^_]+)_ for all before the first _"
        raise ConfigError(Problem(key, what, remedy)) from None
    answer: list[str | None] = json.loads(done.stdout)
    return answer
