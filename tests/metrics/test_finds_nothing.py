"""Whether an evaluation found anything at all."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.labels import Labels
from medseg.metrics.score import score_case
from medseg.metrics.table import MetricsTable

LABELS = Labels({"background": 0, "a": 1, "b": 2})


def table(*pairs: tuple[int, int]) -> MetricsTable:
    scores = []
    for number, (true, found) in enumerate(pairs):
        truth, prediction = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
        truth[1:3, 1:3, 1:3], prediction[1:3, 1:3, 1:3] = true, found
        options = {"labels": LABELS, "spacing_mm": (1.0, 1.0, 1.0), "tolerance_mm": 1.0}
        scores += score_case(prediction, truth, case=str(number), **options)
    return MetricsTable(scores)


@pytest.mark.parametrize(
    ("pairs", "nothing"),
    [
        ([(1, 0), (2, 0)], True),
        ([(1, 2), (2, 1)], True),  # of each case something is predicted, and none of it is right
        ([(1, 0), (2, 2)], False),
        ([(0, 0), (0, 1)], False),  # there was nothing to find
        ([(0, 1), (1, 0)], True),
    ],
)
def test_every_target_is_missed(pairs: list[tuple[int, int]], nothing: bool) -> None:
    assert table(*pairs).finds_nothing is nothing
