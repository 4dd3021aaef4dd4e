"""What is said of the held-out cases: the Dice of each patient, of the healthy what was invented, and a paired test."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

ScoredTarget = tuple[str, str, str, float | None]
"""Case, target, state (as `medseg.metrics.table` has them), Dice."""


@dataclass(frozen=True)
class Held:
    """Scores of held-out cases.

    Args:
        dice: case -> the mean over the targets that its label has; a missed one is 0.
        healthy: case without any target -> whether one was invented in it.
    """

    dice: Mapping[str, float]
    healthy: Mapping[str, bool]

    @classmethod
    def of(cls, rows: Iterable[ScoredTarget]) -> Held:
        there: dict[str, list[float]] = {}
        invented: dict[str, bool] = {}
        for case, _, state, dice in rows:
            if state in ("scored", "missed"):
                there.setdefault(case, []).append(dice or 0.0)
            invented[case] = invented.get(case, False) or state == "false_positive_only"
        healthy = {case: false for case, false in invented.items() if case not in there}
        return cls({case: mean(values) for case, values in there.items()}, healthy)

    @classmethod
    def read(cls, files: Iterable[Path]) -> Held:
        """Of `metrics.csv` files of runs, whose cases differ."""
        rows = []
        for file in files:
            with file.open(newline="") as opened:
                for row in csv.DictReader(opened):
                    dice = float(row["dice"]) if row["dice"] else None
                    rows.append((row["case"], row["target"], row["state"], dice))
        return cls.of(rows)

    def to_plain(self) -> dict[str, dict[str, float]]:
        return {"dice": dict(self.dice), "healthy": dict(self.healthy)}

    @property
    def text(self) -> str:
        """Mean and median of the cases with a target, and how many of the others have a false one."""
        values = list(self.dice.values())
        said = f"Dice mean {mean(values):.4f}, median {median(values):.4f} ({len(values)} cases)" if values else ""
        if self.healthy:
            count = sum(self.healthy.values())
            said += f"; a false target in {count} of {len(self.healthy)} healthy ({count / len(self.healthy):.0%})"
        return said


def paired(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    """Mean difference by case, how often either is better, and the p of Wilcoxon's signed-rank test (two-sided)."""
    from scipy.stats import wilcoxon

    differences = [ours[case] - theirs[case] for case in sorted(ours.keys() & theirs.keys())]
    if not differences:
        return "no case in common"
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = float(wilcoxon(differences).pvalue) if better or worse else 1.0
    return f"{mean(differences):+.4f}, better in {better}, worse in {worse} of {len(differences)}, p = {p:.2g}"
