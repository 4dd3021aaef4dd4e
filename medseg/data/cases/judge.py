"""What `check` would warn of, said to whoever trains: found while the files are read anyway, and said once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from medseg.core.errors import listed
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.inspection import CaseFacts, Finding, doubted_spacing, inspect_case

MEASURED = 32  # volumes whose coarseness says that of all: a median, and measuring takes as long as reading


class Judge:
    """The warnings of `check` about a case; what is an error there, reading refuses.

    Args:
        channels: names of the image's channels.
        labels: what the values of a label mean.
        compares: keep what `together` needs to know of every case.
    """

    def __init__(self, channels: Sequence[str], labels: Labels, compares: bool = True) -> None:
        self.channels, self.labels, self.compares = tuple(channels), labels, compares
        self._seen: list[CaseFacts] = []

    def __call__(self, case: Case) -> list[Finding]:
        coarse = self.compares and len(self._seen) < MEASURED
        facts = inspect_case(case, self.channels, self.labels, measure=False, coarse=coarse)
        if self.compares:
            self._seen.append(facts)
        return [finding for finding in facts.findings if finding.level == "warning"]

    def together(self) -> list[Finding]:
        """What only shows when the cases are compared that were judged since the last time."""
        seen, self._seen = self._seen, []
        return doubted_spacing(seen)


def say_findings(findings: Iterable[Finding]) -> None:
    """Print them to stderr, those of one kind in a line."""
    kinds: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda one: (one.kind, one.case)):
        kinds.setdefault(finding.kind, []).append(finding)
    for kind, found in kinds.items():
        cases, first = list(dict.fromkeys(finding.case for finding in found)), found[0]
        where = f" in {len(cases)} cases: {listed(cases)}: {first.file}" if first.case else ""
        remedy = f" ({first.remedy})" if first.remedy else ""
        print(f"warning: {kind}{where}: {first.detail}{remedy}", file=sys.stderr)
