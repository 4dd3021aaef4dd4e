"""What a part of the campaign reports, and the tables that are made of it."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN = 3  # examples of a row


@dataclass(frozen=True)
class Row:
    """One line of the table: what was tried, how often, and how often it went wrong.

    Args:
        section: the part of the campaign, such as `mutants`.
        what: was tried, in words.
        examples: of what went wrong, each enough to try it again.
    """

    section: str
    what: str
    tried: int
    failed: int
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, section: str, what: str, faults: Iterable[str | None]) -> Row:
        """Of one outcome a trial: what went wrong, or None."""
        found = list(faults)
        wrong = [fault for fault in found if fault is not None]
        return cls(section, what, len(found), len(wrong), tuple(wrong[:SHOWN]))


def printed(rows: Sequence[Row]) -> str:
    """The table for a terminal, with an example or more of each fault."""
    width = max([len(row.what) for row in rows], default=0)
    lines = []
    for row in rows:
        lines.append(f"{row.section:<11} {row.what:<{width}} {row.tried:>6} tried {row.failed:>5} failed")
        lines += [f"    {line}" for example in row.examples for line in example.splitlines()]
    return "\n".join(lines)


def markdown(rows: Sequence[Row], command: str) -> str:
    """The table as it stands in docs/reliability.md."""
    lines = ["| part | what is tried | tried | failed |", "|---|---|---:|---:|"]
    lines += [f"| {row.section} | {row.what} | {row.tried} | {row.failed} |" for row in rows]
    lines.append(f"| all | | {sum(row.tried for row in rows)} | {sum(row.failed for row in rows)} |")
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return "\n".join([*lines, "", f"`{command}`, {day}, {hardware()}."]) + "\n"


def hardware() -> str:
    """The processor and how many cores of it this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {names[0] if names else platform.processor() or platform.machine()}"
