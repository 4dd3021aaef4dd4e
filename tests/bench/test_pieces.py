"""A measurement in pieces: done once, cut off and gone on with, failed and tried again; what a command costs."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path

import pytest
from bench_pieces import Failed, Pieces, _nearest


def test_a_piece_is_done_once(tmp_path: Path) -> None:
    calls = []
    for _ in range(2):
        row = Pieces(tmp_path).do("one", lambda: calls.append(1) or {"figure": 3})
        assert (row["figure"], row["begun"]) == (3, 1)
    assert calls == [1]


def test_a_piece_that_was_cut_off_is_begun_again_and_says_so(tmp_path: Path) -> None:
    def cut() -> dict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pieces(tmp_path).do("one", cut)
    assert json.loads((tmp_path / "results.json").read_text())["one"] == {"begun": 1}
    assert Pieces(tmp_path).do("one", lambda: {})["begun"] == 2


def test_a_failure_is_a_result_until_it_is_asked_for_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('the disk is full', file=sys.stderr); sys.exit(3)"]
    pieces = Pieces(tmp_path)
    row = pieces.do("one", lambda: pieces.call(command))
    assert "ended with 3" in row["failed"]
    assert "the disk is full" in row["failed"]
    assert Pieces(tmp_path).do("one", lambda: {"figure": 3}) == row
    assert Pieces(tmp_path, again=True).do("one", lambda: {"figure": 3})["figure"] == 3


def test_no_piece_begins_after_the_sitting(tmp_path: Path) -> None:
    Pieces(tmp_path).do("one", lambda: {"figure": 3})
    late = Pieces(tmp_path, until=f"{datetime.now():%H:%M}")
    assert late.do("one", lambda: {})["figure"] == 3
    with pytest.raises(SystemExit, match="two"):
        late.do("two", lambda: {})
    assert "two" not in json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize(
    ("now", "clock", "expected"),
    [
        ("2026-01-05 09:00", "11:30", "2026-01-05 11:30"),
        ("2026-01-05 09:00", "08:30", "2026-01-05 08:30"),
        ("2026-01-05 22:00", "01:15", "2026-01-06 01:15"),
        ("2026-01-05 01:00", "23:30", "2026-01-04 23:30"),
    ],
)
def test_the_end_of_a_sitting_is_the_nearest_such_time(now: str, clock: str, expected: str) -> None:
    assert _nearest(clock, datetime.fromisoformat(now)) == datetime.fromisoformat(expected)


@pytest.mark.slow
def test_memory_is_that_of_all_processes_of_a_command(tmp_path: Path) -> None:
    child = "x = bytearray(b'1') * 150_000_000; import time; time.sleep(3)"
    command = [sys.executable, "-c", f"import subprocess, sys; c = [sys.executable, '-c', {child!r}]; "
               "a = [subprocess.Popen(c) for _ in range(2)]; [p.wait() for p in a]"]  # fmt: skip
    row = Pieces(tmp_path).call(command)
    assert 0.28 < row["memory_gib"] < 0.45
    assert 3 < row["seconds"] < 30


def test_a_failed_command_outside_a_piece_raises(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="no such"):
        Pieces(tmp_path).call([sys.executable, "-c", "raise SystemExit('no such thing')"])
