"""A long measurement in pieces, of which each is done once: a sitting may end between any two of them.

`results.json` in the folder of the measurement keeps one row a piece; the same command goes on with what is missing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

Row = dict[str, Any]
INTERVAL = 0.5  # seconds between two looks at the memory


class Failed(Exception):
    """A command of a piece failed; the text says which, and what it said last."""


class Pieces:
    """The rows of a measurement.

    Args:
        folder: holds `results.json`, and `log.txt` with what the commands print.
        until: time of day, `HH:MM` (the nearest one), after which no piece is begun; None: all of them.
        again: pieces that failed are tried again; otherwise a failure is a result like any other.
    """

    def __init__(self, folder: Path, until: str | None = None, again: bool = False) -> None:
        self.folder, self.again = folder.resolve(), again
        self.file, self.log = self.folder / "results.json", self.folder / "log.txt"
        self.deadline = None if until is None else _nearest(until, datetime.now())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, Row] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def do(self, key: str, work: Callable[[], Row]) -> Row:
        """The row of a piece, from the file if it is there, else by doing it.

        A piece that was begun and not ended (the sitting was cut off) says in `begun` how often it was begun.

        Raises:
            SystemExit: the sitting is over.
        """
        row = self.rows.get(key, {})
        if "done" in row or ("failed" in row and not self.again):
            return row
        if self.deadline is not None and datetime.now() >= self.deadline:
            raise SystemExit(f"the sitting ends before: {key}. The same command goes on from there.")
        begun = row.get("begun", 0) + 1
        self._keep(key, {"begun": begun})
        print(f"{time.strftime('%H:%M:%S')} {key}", flush=True)
        try:
            row = {"begun": begun, "done": time.strftime("%Y-%m-%d %H:%M"), **work()}
        except Failed as error:
            row = {"begun": begun, "failed": str(error)}
            print(f"    failed: {error}", flush=True)
        self._keep(key, row)
        return row

    def call(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Row:
        """Seconds of a whole command, and the peak of the memory of all its processes in GiB (`memory_gib`).

        What it prints goes into `log.txt`.

        Raises:
            Failed: its exit code is not 0.
        """
        with self.log.open("a") as log:
            print("$", " ".join(map(str, command)), file=log, flush=True)
            begun = time.perf_counter()
            process = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
            try:
                peak = _watch(process)
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
            seconds = time.perf_counter() - begun
        if process.returncode:
            last = self.log.read_text(errors="replace").strip().splitlines()[-1]
            raise Failed(f"{' '.join(map(str, command[:4]))} ... ended with {process.returncode}: {last[-300:]}")
        return {"seconds": round(seconds, 2), "memory_gib": round(peak / 2**30, 3)}

    def _keep(self, key: str, row: Row) -> None:
        self.rows[key] = row
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps(self.rows, indent=1) + "\n")
        draft.replace(self.file)


def _nearest(clock: str, now: datetime) -> datetime:
    """The moment of a time of day, `HH:MM`, within twelve hours of now, on either side."""
    moment = datetime.combine(now.date(), datetime.strptime(clock, "%H:%M").time())
    half = timedelta(hours=12)
    return moment + timedelta(days=(moment < now - half) - (moment > now + half))


def _watch(process: subprocess.Popen[bytes]) -> int:
    """The largest sum of the PSS (memory; what is shared counts once) of a session, until its leader ends."""
    peak, ended = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(INTERVAL):
            peak = max(peak, sum(map(_proportional, _session(process.pid))))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        process.wait()
    finally:
        ended.set()
        watcher.join()
    return peak


def _session(leader: int) -> list[int]:
    """The processes of a session, as Linux lists them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # "pid (name) state parent group session ...", and a name may hold anything
                session = (folder / "stat").read_text().rpartition(")")[2].split()[3]
            except (OSError, IndexError):  # it ended meanwhile
                continue
            if int(session) == leader:
                found.append(int(folder.name))
    return found


def _proportional(process: int) -> int:
    """Bytes; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
