"""Faults that medseg had at commit 150974b, each as somebody met it: none is there any more.

The other parts draw; here every fault that was told has a trial, so that each is known to be found where it is.
`docs/reliability.md` lists which are found there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

from tests.campaign.faults import failures, names, outputs, splits
from tests.campaign.faults.case import Fault
from tests.campaign.inputs import MAKERS, Home
from tests.campaign.rows import Row

SECTION = "faults"
FAULTS: tuple[Fault, ...] = (*names.FAULTS, *splits.FAULTS, *outputs.FAULTS, *failures.FAULTS)
USUAL = 1.5  # minutes that all of them take
SAMPLE = 8  # of the quick ones, where there is no time for all


def campaign(seed: int, minutes: float, full: bool, folder: Path) -> Iterable[Row]:
    """A row a fault: those of the sample where the time is short."""
    home = Home(folder, list(MAKERS))
    quick = [fault for fault in FAULTS if not fault.slow]
    chosen = FAULTS if full or minutes >= USUAL / 2 else Random(seed).sample(quick, SAMPLE)
    for fault in chosen:
        yield Row.of(SECTION, f"{fault.section}: {fault.what}", [fault.found(home)])
