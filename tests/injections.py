"""Text that strangers may have put into names and files: each would leave a trace if MONAI took it for code."""

from __future__ import annotations

import builtins
from typing import Any

CALL = "__import__('builtins').__dict__.setdefault('medseg_canary', []).append(1)"
EVIL = (
    f"${CALL}",
    f"${CALL.replace(chr(39), chr(34))}",
    f"$({CALL}, 'out#2')",
    "$import this",
    "$from this import d",
    "@seed",
    "@labels",
    "@nothing",
    "@#",
    "@####################",
    "%seed",
    "%nothing",
    "%/etc/passwd.json::x",
    "%#seed",
    "GTV#1",
    "a::b",
    "labels::classes",
    "_target_",
    "_mode_",
    "+seed",
    "{x}: [y]",
    "'\"\n\\",
    "a\n$b",
    "\udcff@",
)
"""What begins as code of MONAI's bundle language, what has its separators, and what is hard to quote."""


def executed() -> bool:
    """Whether any of it was executed since the last time that this was asked."""
    import sys

    ran: list[Any] = builtins.__dict__.pop("medseg_canary", [])
    return bool(ran) or sys.modules.pop("this", None) is not None
