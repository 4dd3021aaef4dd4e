"""A disk that is full, or cannot be written to, at every kind of operation: a message; then the same command ends as if
nothing had been."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

from tests.campaign.inputs import MAKERS, Home
from tests.campaign.results import differences, results
from tests.campaign.rows import Row

SECTION = "disks"
VERBS = {
    "train": 6,
    "go on": 4,
    "evaluate": 4,
    "predict": 4,
    "postprocess": 4,
    "predict again": 2,
    "bundle": 2,
    "plan": 2,
}
"""Verb -> in how many places it is refused, in the default campaign, for each of `NUMBERS` together."""
NUMBERS = (errno.ENOSPC, errno.EACCES, errno.EROFS)
USUAL = 1.5  # minutes of the default campaign
SIZES = (0, 300, 3000, 30_000)  # bytes beyond which no file grows
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "shutil.rmtree")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
COUNTS = re.compile(r"[0-9a-f]{8,}|\d+|^(tmp)?[a-z0-9_]{8}$")  # the last: Python's temporary files
Kind = tuple[str, str]
"""An event of Python's audit, and the name of the file but for what counts in it."""


def campaign(seed: int, minutes: float, full: bool, folder: Path) -> Iterable[Row]:
    trials, random = Trials(folder), Random(seed)
    tries = max(1, round(sum(VERBS.values()) * minutes / USUAL))
    drawn = Counter(random.choices(list(VERBS), list(VERBS.values()), k=tries))
    for verb in VERBS if full else drawn:
        pairs = [(kind, number) for kind in trials.kinds(verb) for number in NUMBERS]
        chosen = pairs if full else random.sample(pairs, min(len(pairs), drawn[verb]))
        faults = [trials.refused(verb, kind, number) for kind, number in chosen]
        yield Row.of(SECTION, f"{verb}: full, no rights, read-only", faults)
        sizes = SIZES if full else random.sample(SIZES, 1)
        yield Row.of(SECTION, f"{verb}: files that cannot grow", [trials.cut_off(verb, size) for size in sizes])


class Trials:
    """Refused operations, and what the same commands come to without them."""

    def __init__(self, folder: Path) -> None:
        self.home, self.folder = Home(folder, list(MAKERS)), folder
        self.plain: dict[str, dict[str, str]] = {}

    def kinds(self, verb: str) -> list[Kind]:
        """What the verb does to the disk; its results are kept to compare with."""
        place, log = self.home.fresh(verb), self.folder / "operations"
        log.write_text("")
        outcome = self.home.ask(verb, before=lambda: _listen(place, lambda kind: _note(log, kind)))
        if outcome.code != 0:
            raise RuntimeError(f"{verb}: exit {outcome.code}\n{outcome.err}")
        self.plain[verb] = results(place, verb)
        operations = {line.partition(" ") for line in log.read_text().splitlines()}
        return sorted((event, name) for event, _, name in operations)

    def refused(self, verb: str, kind: Kind, number: int) -> str | None:
        """What goes wrong where the first operation of this kind is refused; None: nothing."""

        def refuse(found: Kind) -> None:
            if found == kind and not self._done:
                self._done = True
                raise OSError(number, os.strerror(number), kind[1])

        self._done = False
        fault = self._tried(verb, lambda place: _listen(place, refuse))
        return None if fault is None else f"{verb}, {errno.errorcode[number]} at {' '.join(kind)}: {fault}"

    def cut_off(self, verb: str, size: int) -> str | None:
        """What goes wrong where no file can be larger; None: nothing."""
        fault = self._tried(verb, lambda place: _limit(size))
        return None if fault is None else f"{verb}, files of {size} bytes at most: {fault}"

    def _tried(self, verb: str, before: Callable[[Path], object]) -> str | None:
        place = self.home.fresh(verb)
        if verb not in self.plain:
            self.kinds(verb)
            place = self.home.fresh(verb)
        outcome = self.home.ask(verb, before=lambda: before(place))
        if outcome.fault is not None:
            return outcome.fault
        again = self.home.ask(verb)
        if again.code != 0:
            return f"and then, again: exit {again.code}: {' '.join(again.err.split())[-200:]}"
        if other := differences(self.plain[verb], results(place, verb)):
            return f"and then other results: {', '.join(other[:3])}"
        return None


def _limit(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _note(log: Path, kind: Kind) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{kind[0]} {kind[1]}\n".encode())
    os.close(descriptor)


def _listen(place: Path, told: Callable[[Kind], object]) -> None:
    """Say before each operation on a file below the folder of which kind it is."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not arguments or not isinstance(arguments[0], (str, bytes, Path)):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
            return
        path = os.path.abspath(os.fsdecode(arguments[1 if event in ("os.rename", "os.link", "os.symlink") else 0]))
        name = os.path.basename(path)
        if path.startswith(f"{place}{os.sep}") and not name.startswith(("medseg-error", ".said")):
            told((event, COUNTS.sub("N", name)))

    sys.addaudithook(hook)
