"""What `check` would warn of, said to whoever trains: found while the files are read anyway, and said once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from medseg.core.errors import listed
from medseg.core.labels import Labels
from medseg.data.cases.across import across
from medseg.data.cases.case import Case
from medseg.data.cases.coarseness import QUICK
from medseg.data.cases.inspection import CaseFacts, Finding, inspect_case

SAMPLE = 4  # cases whose slices are measured, evenly spaced: of all of them it would be felt
_PLAIN = TypeAdapter(CaseFacts)


class Judge:
    """The facts and warnings of `check` about a case; what is an error there, reading refuses.

    Args:
        channels: names of the image's channels.
        labels: what the values of a label mean.
    """

    def __init__(self, channels: Sequence[str], labels: Labels) -> None:
        self.channels, self.labels = tuple(channels), labels

    def __call__(self, case: Case, loaded: Mapping[str, Any], *, coarse: bool = False) -> CaseFacts:
        """The facts of a case.

        Args:
            loaded: as `LoadCased` gives it.
            coarse: measure how coarse its slices are, quickly, if its spacing may be doubted.
        """
        lines = QUICK if coarse else 0
        facts = inspect_case(case, self.channels, self.labels, loaded=loaded, line_voxels=lines)
        return replace(facts, findings=[finding for finding in facts.findings if finding.level == "warning"])


def to_plain(facts: CaseFacts) -> dict[str, Any]:
    """For a JSON file."""
    return _PLAIN.dump_python(facts, mode="json", exclude_defaults=True)


def from_plain(plain: Mapping[str, Any]) -> CaseFacts:
    """Raises ValueError where that is not what `to_plain` gave."""
    return _PLAIN.validate_python(plain)


def sampled(cases: int) -> set[int]:
    """Numbers of those of so many cases whose slices are measured."""
    return {round(place) for place in np.linspace(0, cases - 1, SAMPLE)} if cases else set()


def say(facts: Iterable[CaseFacts], *, compared: bool = True) -> None:
    """Print to stderr what was found in each case, and what shows when they are compared.

    Args:
        compared: False: some of the cases are not among them, so nothing is said of all.
    """
    facts = sorted(facts, key=lambda one: one.case)
    findings = [finding for one in facts for finding in one.findings]
    say_findings([*findings, *across(facts)] if compared else findings)


def say_findings(findings: Iterable[Finding]) -> None:
    """Print them to stderr, those of one kind in a line; what is said of no case has its own."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(findings, key=lambda one: (one.kind, one.case)):
        kinds.setdefault((finding.kind, "" if finding.case else finding.file or "all"), []).append(finding)
    for (kind, _), found in kinds.items():
        cases, first = list(dict.fromkeys(finding.case for finding in found)), found[0]
        where = f" in {len(cases)} cases: {listed(cases)}" if first.case else ""
        file, remedy = f"{first.file}: " if first.file else "", f" ({first.remedy})" if first.remedy else ""
        print(f"warning: {kind}{where}: {file}{first.detail}{remedy}", file=sys.stderr)
