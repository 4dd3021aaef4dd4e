"""Runs the parts of the campaign, prints their table, and exits with 1 if anything failed."""

from __future__ import annotations

import os

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # before any import

import argparse
import importlib
import pickle
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.campaign import entry
from tests.campaign.rows import Row, markdown, printed

SHARES = {"kills": 7.5, "mutants": 6.5, "injections": 1.5, "flips": 1.5, "disks": 1.5, "faults": 1.5}
"""Part -> its share of the time; the longest begin. Parts run beside one another, one on each core."""
HOURS = 24.0  # of the whole campaign: no limit in practice


def main(words: Sequence[str] | None = None) -> int:
    asked = _asked(words)
    entry.use(asked.tree)
    folder = Path(tempfile.mkdtemp(prefix="medseg-campaign-", dir=asked.folder))
    begin = time.monotonic()
    entry.warm()
    names = [name for name in SHARES if name in (asked.only or SHARES)]
    whole = asked.minutes * min(asked.processes, len(names))
    minutes = {
        name: HOURS * 60 if asked.full else whole * SHARES[name] / sum(SHARES[n] for n in names) for name in names
    }
    rows = _run(names, minutes, asked, folder)
    shutil.rmtree(folder, ignore_errors=True)
    print(printed(rows))
    failed = sum(row.failed for row in rows)
    print(f"{sum(row.tried for row in rows)} tried, {failed} failed, {(time.monotonic() - begin) / 60:.1f} minutes")
    if asked.table is not None:
        asked.table.write_text(markdown(rows, " ".join(["python -m tests.campaign", *(words or sys.argv[1:])])))
    return 1 if failed else 0


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", action="store_true", help="everything, however long it takes")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together")
    parser.add_argument("--processes", type=int, default=2, help="parts that run beside one another")
    parser.add_argument("--only", nargs="+", choices=list(SHARES), help="these parts")
    parser.add_argument("--table", type=Path, help="write the table in Markdown")
    parser.add_argument("--tree", type=Path, help="a checkout whose medseg is tried; default: this one")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    return parser.parse_args(words)


def _run(names: Sequence[str], minutes: dict[str, float], asked: Any, folder: Path) -> list[Row]:
    """The rows of all parts, each part in a process that is forked from this one, which stays without threads."""
    running: dict[int, str] = {}
    waiting = list(names)
    while waiting or running:
        while waiting and len(running) < asked.processes:
            name = waiting.pop(0)
            running[_started(name, minutes[name], asked, folder)] = name
        child, _ = os.wait()
        running.pop(child, None)
    return [row for name in names for row in _rows_of(name, folder)]


def _started(name: str, minutes: float, asked: Any, folder: Path) -> int:
    child = os.fork()
    if child:
        return child
    rows: list[Row] = []
    try:
        part = importlib.import_module(f"tests.campaign.{name}")
        place = folder / (name if asked.processes > 1 else "one")  # one after the other, they share what they make
        place.mkdir(exist_ok=True)
        for row in part.campaign(asked.seed, minutes, asked.full, place):
            rows.append(row)
            print(printed([row]), file=sys.stderr, flush=True)
    except BaseException:
        traceback.print_exc()
        rows.append(Row(name, "the part itself", 1, 1, (traceback.format_exc(),)))
    finally:
        (folder / f"{name}.rows").write_bytes(pickle.dumps(rows))
        os._exit(0)


def _rows_of(name: str, folder: Path) -> list[Row]:
    file = folder / f"{name}.rows"
    lost = [Row(name, "the part itself", 1, 1, ("its process ended without a word",))]
    return pickle.loads(file.read_bytes()) if file.exists() else lost


if __name__ == "__main__":
    sys.exit(main())
