"""Predictions that mean other values than they hold: counted from 0 over the evaluated classes, or one too high."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.core.labels import Labels

BETTER = 0.25  # of the pixels, at least, that agree more if they are read otherwise
TIMES = 1.5  # and so many times as many


def misread(counts: np.ndarray, labels: Labels, values: Sequence[int] = range(256)) -> str:
    """What predictions seem to hold in the place of their classes' values; empty where it is those.

    Args:
        counts: pixels of each true value (rows) that are predicted as each value (columns).
        values: of the rows and columns.
    """
    places = {value: place for place, value in enumerate(values)}
    truth = [places[value] for value in labels.values if value in places]
    total = counts[truth].sum()
    if not total:
        return ""

    def agreement(written: Sequence[int]) -> float:
        """Share of the pixels of classes that have what would be written for them."""
        pairs = zip(labels.values, written, strict=True)
        return sum(counts[places[v], places[w]] for v, w in pairs if v in places and w in places) / total

    own = agreement(labels.values)
    numbers = list(range(len(labels.values)))
    others = {
        "count the evaluated classes from 0 (trainIds, reduce_zero_label): give --train-ids": numbers,
        "are one too low: add 1 to them": [value - 1 for value in labels.values],
        "are one too high: take 1 from them": [value + 1 for value in labels.values],
    }
    what, best = max(((text, agreement(written)) for text, written in others.items()), key=lambda one: one[1])
    if best < own + BETTER or best < TIMES * own:
        return ""
    agree = f"with which {best:.0%} of the pixels agree, not {own:.0%}"
    return f"the predictions seem to hold other values, {agree}: they {what}"
