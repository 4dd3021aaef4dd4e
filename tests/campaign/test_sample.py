"""A sample of each part of the campaign (docs/reliability.md), as `make campaign` runs it; its parts can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.entry import Outcome
from tests.campaign.rows import Row, markdown, printed
from tests.processes import Module

PARTS = ["mutants", "injections", "flips", "disks", "faults"]


@pytest.mark.slow
def test_a_sample(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    arguments = ["--only", *PARTS, "--minutes", "0.2", "--processes", "1", "--table", table, "--folder", tmp_path]
    code, out, err = Module("tests.campaign", arguments, cwd=tmp_path).finish(280)
    assert code == 0, f"{out}\n{err}"
    assert all(f"| {part} |" in table.read_text() for part in PARTS)


@pytest.mark.parametrize(
    ("code", "err", "fault"),
    [
        (0, "", None),
        (2, "error: x", None),
        (2, "", "without a word"),
        (None, "", "hangs"),
        (-11, "", "signal 11"),
        (1, "Traceback (most recent call last):\nValueError: x", "traceback"),
        (70, "error: unexpected", "exit 70"),
        (2, "x\n" * 41, "41 lines"),
        (0, "1%|x\n" * 41, None),
    ],
)
def test_what_no_command_may_do(code: int | None, err: str, fault: str | None) -> None:
    found = Outcome(code, "", err, 0.0).fault
    assert (found is None) == (fault is None)
    assert fault is None or fault in str(found)


def test_the_table() -> None:
    rows = [Row.of("flips", "masks", [None, "bit 3 was silent", None])]
    assert "1 failed\n    bit 3 was silent" in printed(rows)
    assert "| flips | masks | 3 | 1 |" in markdown(rows, "make campaign")
