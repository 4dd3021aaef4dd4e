"""Lesions counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.core.labels import Labels
from medseg.metrics.lesions import LesionScore, lesion_summary, lesion_text, read_lesions, score_lesions, write_lesions

LABELS = Labels({"background": 0, "lesion": 1, "organ": 2}, ignore_index=9)


def score(prediction: np.ndarray, truth: np.ndarray) -> LesionScore:
    (found,) = score_lesions(prediction, truth, case="a", labels=LABELS, targets=["lesion"])
    return found


def empty() -> np.ndarray:
    return np.zeros((12, 12, 6), np.uint8)


def test_found_missed_invented() -> None:
    truth, prediction = empty(), empty()
    truth[0:2, 0:2, 0] = 1  # found, half of it
    prediction[0:1, 0:2, 0] = 1
    truth[5:7, 5:7, 3] = 1  # missed
    prediction[10:12, 10:12, 5] = 1  # invented
    prediction[0:3, 8:10, 0] = 2  # another class
    assert score(prediction, truth) == LesionScore("a", "lesion", 2, 1, 1, pytest.approx(2 * 2 / (4 + 2) / 3))


def test_parts_hang_together_by_corners_and_several_parts_find_one_lesion() -> None:
    truth, prediction = empty(), empty()
    truth[0, 0, 0] = truth[1, 1, 1] = 1
    prediction[0, 0, 0] = 1
    assert score(prediction, truth).true == 1
    truth, prediction = empty(), empty()
    truth[0:9, 0, 0] = 1
    prediction[0:3, 0, 0] = prediction[6:9, 0, 0] = 1
    assert score(prediction, truth) == LesionScore("a", "lesion", 1, 1, 0, pytest.approx(12 / 15))


def test_one_part_over_two_lesions_finds_both() -> None:
    truth, prediction = empty(), empty()
    truth[0:2, 0, 0] = truth[4:6, 0, 0] = 1
    prediction[0:6, 0, 0] = 1
    assert score(prediction, truth) == LesionScore("a", "lesion", 2, 2, 0, pytest.approx((4 / 8 + 4 / 8) / 2))


def test_nothing_there_and_ignored_voxels() -> None:
    assert score(empty(), empty()) == LesionScore("a", "lesion", 0, 0, 0, None)
    truth, prediction = empty(), empty()
    truth[0:2], prediction[0:2] = 9, 1
    assert score(prediction, truth) == LesionScore("a", "lesion", 0, 0, 0, None)


def test_summary_pools_lesions_and_files_hold_it(tmp_path: Path) -> None:
    rows = [
        LesionScore("a", "lesion", 3, 2, 1, 0.5),
        LesionScore("b", "lesion", 1, 1, 0, 0.9),
        LesionScore("c", "lesion", 0, 0, 0, None),
    ]
    summary = lesion_summary(rows)["targets"]["lesion"]
    assert summary["sensitivity"] == 0.75
    assert summary["false_positives_per_case"] == pytest.approx(1 / 3)
    assert (summary["dice"], summary["dice_cases"]) == (pytest.approx(0.7), 2)
    write_lesions(rows, tmp_path)
    assert read_lesions(tmp_path) == rows
    assert read_lesions(tmp_path / "elsewhere") == []
    assert "3 of 4 found (sensitivity 0.750), 0.33 false positives a case" in lesion_text(rows)
    assert (tmp_path / "lesions.csv").read_text().splitlines()[3] == "c,lesion,0,0,0,"
