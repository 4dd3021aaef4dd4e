"""Overlap of prediction and truth, from voxel counts alone.

A ratio of 0 / 0 is 0: whether such a case counts at all is decided by its state (`metrics/score.py`), and once it
counts, a structure without any voxel found must not improve a mean.
"""

from __future__ import annotations

from medseg.metrics.confusion import Counts
from medseg.metrics.metric import Column, Overlap


class Dice(Overlap):
    """2 TP / (2 TP + FP + FN)."""

    column = Column("Dice", meaning="overlap of prediction and expert, 1 is perfect")

    def of(self, counts: Counts) -> float:
        return ratio(2 * counts.true_positives, counts.predicted + counts.true)


class IoU(Overlap):
    """TP / (TP + FP + FN), the Jaccard index."""

    column = Column("IoU", meaning="overlap, counted more strictly; its mean over structures is the mIoU")

    def of(self, counts: Counts) -> float:
        return ratio(counts.true_positives, counts.predicted + counts.false_negatives)


class Precision(Overlap):
    """TP / (TP + FP)."""

    column = Column("precision", headline=False, meaning="the share of what was predicted that is right")

    def of(self, counts: Counts) -> float:
        return ratio(counts.true_positives, counts.predicted)


class Recall(Overlap):
    """TP / (TP + FN), the sensitivity."""

    column = Column("recall", headline=False, meaning="the share of what is there that was found")

    def of(self, counts: Counts) -> float:
        return ratio(counts.true_positives, counts.true)


def ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 0.0
