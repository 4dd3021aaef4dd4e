"""Every connected part of a target as a lesion of its own: found, missed or invented.

Voxel-wise Dice is the large lesions' affair; who looks for small ones asks how many were found and how many invented,
and how well each was outlined. A lesion is a part that hangs together by faces, edges or corners. A true one is found
when a predicted part touches it; a predicted part that touches none is invented.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.boxes import bounding_box
from medseg.core.fast import components
from medseg.core.files import replace_file
from medseg.core.labels import Labels
from medseg.core.tables import write_table
from medseg.metrics.confusion import where_values
from medseg.metrics.documents import COUNT, MAYBE, TEXT, check_types, read_document

SCHEMA = "medseg-lesions/1"


@dataclass(frozen=True)
class LesionScore:
    """The lesions of one target in one case.

    Args:
        true: lesions in the truth.
        found: of these, touched by the prediction.
        invented: predicted parts that touch no true lesion.
        dice: sum over the true lesions of the Dice with all predicted parts that touch them (0 where missed), divided
            by true + invented, as BraTS 2023 does: neither missing nor inventing improves it. None where there is
            neither a true lesion nor an invented one.
        other: what the file that this was read from says besides; it is kept, and written again.
    """

    case: str
    target: str
    true: int
    found: int
    invented: int
    dice: float | None
    other: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Plain data without nesting."""
        return {**{name: getattr(self, name) for name in FIELDS}, **self.other}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> LesionScore:
        """The inverse of `row`; a column that every row has is a KeyError where it is missing, else a ValueError."""
        known = {name: row[name] for name in FIELDS}
        check_types(known, case=TEXT, target=TEXT, true=COUNT, found=COUNT, invented=COUNT, dice=MAYBE)
        return cls(**known, other={key: row[key] for key in row if key not in known})


FIELDS = tuple(one.name for one in fields(LesionScore) if one.name != "other")


def score_lesions(
    prediction: np.ndarray, truth: np.ndarray, *, case: str, labels: Labels, targets: Sequence[str]
) -> list[LesionScore]:
    """The lesions of each named target of one case.

    Args:
        prediction, truth: label values (*spatial); voxels of the truth that are ignored count nowhere.
        targets: names of `labels.targets`.
    """
    counted = ~np.isin(truth, labels.ignored) if labels.ignored else None
    scores = []
    for target in targets:
        predicted, true = (where_values(values, labels.targets[target]) for values in (prediction, truth))
        if counted is not None:
            predicted, true = predicted & counted, true & counted
        box = bounding_box(predicted | true)
        scores.append(_score(predicted[box], true[box], case, target))
    return scores


def _score(predicted: np.ndarray, true: np.ndarray, case: str, target: str) -> LesionScore:
    if not true.size:
        return LesionScore(case, target, 0, 0, 0, None)
    parts, number = components(predicted, connectivity=true.ndim)
    lesions, count = components(true, connectivity=true.ndim)
    both = (parts > 0) & (lesions > 0)
    codes, overlaps = np.unique(lesions[both].astype(np.int64) * (number + 1) + parts[both], return_counts=True)
    pairs = np.divmod(codes, number + 1)  # lesion and part of every overlap
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)
    part_sizes = np.bincount(parts.ravel(), minlength=number + 1)
    dice = []
    for lesion in range(1, count + 1):
        touching = pairs[0] == lesion
        total = sizes[lesion] + part_sizes[pairs[1][touching]].sum()
        dice.append(2 * overlaps[touching].sum() / total)
    invented = number - len(np.unique(pairs[1]))
    considered = count + invented
    mean = float(np.sum(dice) / considered) if considered else None
    return LesionScore(case, target, count, len(np.unique(pairs[0])), invented, mean)


def lesion_summary(scores: Sequence[LesionScore]) -> dict[str, Any]:
    """Per target: detection sensitivity (pooled lesions), invented lesions a case, mean lesion-wise Dice over cases."""
    targets: dict[str, dict[str, Any]] = {}
    for target in dict.fromkeys(score.target for score in scores):
        own = [score for score in scores if score.target == target]
        true, found = sum(score.true for score in own), sum(score.found for score in own)
        dice = [score.dice for score in own if score.dice is not None]
        targets[target] = {
            "cases": len(own),
            "true": true,
            "found": found,
            "sensitivity": found / true if true else None,
            "false_positives_per_case": sum(score.invented for score in own) / len(own),
            "dice": sum(dice) / len(dice) if dice else None,
            "dice_cases": len(dice),
        }
    return {"schema": SCHEMA, "targets": targets}


def write_lesions(scores: Sequence[LesionScore], folder: Path) -> None:
    """`lesions.json` (summary and rows) and `lesions.csv` (rows)."""
    rows = [score.row() for score in scores]
    text = json.dumps({**lesion_summary(scores), "scores": rows}, indent=2, allow_nan=False)
    replace_file(folder / "lesions.json", text + "\n")
    write_table(folder / "lesions.csv", rows)


def read_lesions(folder: Path) -> list[LesionScore]:
    """The rows that `write_lesions` put into a folder, in this version or another; none where there is no such file.

    Raises:
        DataError: a foreign file.
    """
    if not (folder / "lesions.json").is_file():
        return []
    with read_document(folder / "lesions.json", SCHEMA) as document:
        return [LesionScore.from_row(row) for row in document["scores"]]


def lesion_text(scores: Sequence[LesionScore]) -> str:
    """The summary for a terminal."""
    lines = []
    for name, row in lesion_summary(scores)["targets"].items():
        sensitivity = "-" if row["sensitivity"] is None else f"{row['sensitivity']:.3f}"
        dice = "-" if row["dice"] is None else f"{row['dice']:.4f}"
        lines.append(
            f"lesions of {name}: {row['found']} of {row['true']} found (sensitivity {sensitivity}), "
            f"{row['false_positives_per_case']:.2f} false positives a case, lesion-wise Dice {dice}"
        )
    return "\n".join(lines)
