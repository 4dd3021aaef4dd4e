"""What a part of the campaign found: a row of its table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """So many trials of one thing, and how many of them did not end as they must.

    Args:
        section: of the table.
        what: was tried.
        examples: of what failed, a line each.
    """

    section: str
    what: str
    tried: int
    failed: int
    examples: tuple[str, ...]
