"""What the table makes of scores: means, counts, intervals, files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.metrics.table import CaseScore, MetricsTable, score_case

LABELS = Labels(classes={"background": 0, "anterior": 1, "posterior": 2})


def make_table(cases: int = 12, posterior: bool = True, seed: int = 0) -> MetricsTable:
    """Real scores of noisy cubes."""
    rng = np.random.default_rng(seed)
    scores: list[CaseScore] = []
    for number in range(cases):
        truth = np.zeros((12, 12, 12), dtype=np.uint8)
        truth[2:7, 2:7, 2:7] = 1
        truth[7:10, 3:8, 3:8] = 2 if posterior else 0
        prediction = np.where(rng.random(truth.shape) < 0.03 * number, 0, truth)
        scores += score_case(
            prediction, truth, case=f"case_{number:02d}", labels=LABELS, spacing_mm=(1, 1, 1), tolerance_mm=1.0
        )
    return MetricsTable(scores)


def row(case: str, target: str, dice: float | None, state: str = "scored", voxels=(10, 0, 0)) -> CaseScore:
    metrics = dict.fromkeys(("dice", "iou", "precision", "recall", "surface_dice"), dice)
    metrics["hd95_mm"] = None if dice is None else 10.0 * (1 - dice)
    counts = dict(zip(("true_positives", "false_positives", "false_negatives"), voxels, strict=True))
    return CaseScore(case, target, state, metrics, tolerance_mm=1.0, volume_ml=1.0, truth_volume_ml=2.0, **counts)


def test_means_are_over_targets_of_means_over_cases() -> None:
    table = MetricsTable(
        [row("a", "x", 1.0), row("b", "x", 0.5), row("a", "y", 0.2), row("b", "y", None, "absent", (0, 0, 0))]
    )
    summary = table.summary()
    assert summary["targets"]["x"]["dice"] == pytest.approx(0.75)
    assert summary["targets"]["y"]["dice"] == pytest.approx(0.2)
    assert summary["targets"]["y"]["n"] == 1
    assert summary["targets"]["y"]["states"] == {"scored": 1, "missed": 0, "false_positive_only": 0, "absent": 1}
    assert summary["mean_dice"] == summary["macro"]["dice"] == pytest.approx((0.75 + 0.2) / 2)
    assert summary["convention"] == "medical"
    assert summary["targets"]["y"]["volume_ml"] == 1.0


def test_micro_pools_voxels() -> None:
    table = MetricsTable([row("a", "x", 1.0, voxels=(90, 0, 0)), row("b", "x", 0.0, voxels=(0, 5, 5))])
    assert table.summary()["micro"]["dice"] == pytest.approx(180 / 190)
    assert table.summary()["micro"]["iou"] == pytest.approx(0.9)
    assert table.summary()["targets"]["x"]["micro"]["recall"] == pytest.approx(90 / 95)


def test_an_absent_target_changes_nothing_and_a_missed_one_makes_everything_worse() -> None:
    base = [row("a", "x", 0.8), row("b", "x", 0.9)]
    plain = MetricsTable(base).summary()
    absent = MetricsTable([*base, row("c", "x", None, "absent", (0, 0, 0))]).summary()
    assert absent["mean_dice"] == plain["mean_dice"]
    assert absent["mean_hd95_mm"] == plain["mean_hd95_mm"]
    for state, voxels in (("missed", (0, 0, 9)), ("false_positive_only", (0, 9, 0))):
        worse = MetricsTable([*base, row("c", "x", 0.0, state, voxels)]).summary()
        for metric in ("dice", "iou", "precision", "recall", "surface_dice"):
            assert worse[f"mean_{metric}"] < plain[f"mean_{metric}"]
        assert worse["mean_hd95_mm"] > plain["mean_hd95_mm"]
        assert worse["targets"]["x"]["n"] == 3


def test_intervals_hold_their_mean_and_shrink_with_cases() -> None:
    few, many = make_table(6).summary(), make_table(40).summary()
    for summary in (few, many):
        for target in summary["targets"].values():
            low, high = target["ci95"]["dice"]
            assert low < target["dice"] < high
        assert summary["ci95"]["dice"][0] < summary["mean_dice"] < summary["ci95"]["dice"][1]
    assert make_table(6).summary() == few  # seeded: the same scores, the same interval


def test_interval_has_the_width_of_the_normal_theory() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.7, 0.1, 400)
    summary = MetricsTable([row(f"c{i}", "x", float(value)) for i, value in enumerate(values)]).summary()
    low, high = summary["targets"]["x"]["ci95"]["dice"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.12)


def test_one_case_has_no_interval() -> None:
    summary = make_table(1).summary()
    assert summary["ci95"]["dice"] is None
    assert summary["targets"]["anterior"]["ci95"]["dice"] is None


def test_files_round_trip_without_nan(tmp_path: Path) -> None:
    table = make_table(5, posterior=False)
    table.write(tmp_path / "eval")
    text = (tmp_path / "eval" / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["targets"]["posterior"]["dice"] is None
    assert {path.name for path in (tmp_path / "eval").iterdir()} == {"metrics.json", "metrics.csv"}
    again = MetricsTable.read(tmp_path / "eval")
    assert again.scores == table.scores
    assert again.summary() == table.summary()
    with (tmp_path / "eval" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    absent = next(r for r in rows if r["state"] == "absent")
    assert (absent["dice"], absent["hd95_mm"], absent["convention"]) == ("", "", "medical")
    scored = next(r for r in rows if r["state"] == "scored")
    assert float(scored["dice"]) == table.scores[0].dice


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"dice": 1}')
    with pytest.raises(DataError, match=r"metrics\.json"):
        MetricsTable.read(tmp_path)
    with pytest.raises(DataError):
        MetricsTable.read(tmp_path / "nowhere")


def test_text_is_aligned_and_names_its_convention() -> None:
    text = make_table(5, posterior=False).text()
    head, anterior, posterior, mean, *rest = text.splitlines()
    assert len(head) == len(anterior) == len(posterior) == len(mean)
    assert anterior.split()[:2] == ["anterior", "5"]
    assert posterior.split()[:5] == ["posterior", "0", "0", "0", "5"]
    assert "surface Dice 1 mm" in head
    assert "convention: medical" in " ".join(rest)


def test_ranking_and_extremes() -> None:
    table = make_table(9)
    ranking = table.ranking()
    assert ranking[-1] == "case_00"  # predicted perfectly
    means = dict(zip(table.cases, table.matrix("dice").mean(axis=1), strict=True))
    assert ranking == sorted(ranking, key=lambda case: means[case])
    assert table.extremes(2) == {"worst": ranking[:2], "median": ranking[4:6], "best": ranking[:-3:-1]}
    for cases in range(5):
        chosen = [case for group in make_table(cases).extremes(2).values() for case in group]
        assert len(chosen) == len(set(chosen)) == cases


def test_empty_table_has_no_mean(tmp_path: Path) -> None:
    table = MetricsTable([])
    assert table.summary()["mean_dice"] is None
    assert table.extremes() == {"worst": [], "median": [], "best": []}
    table.write(tmp_path)
    assert MetricsTable.read(tmp_path).scores == []
    assert "0 cases" in table.text()


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(DataError, match="did you mean 'medical'"):
        MetricsTable([], convention="medicla")
    with pytest.raises(DataError, match="scored twice"):
        MetricsTable([row("a", "x", 1.0), row("a", "x", 1.0)])
