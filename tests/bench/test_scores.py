"""What the comparisons say of held-out cases, and what they tell `medseg plan`."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_data import find_data, told
from bench_scores import Held, paired

ROWS = [
    ("ill_1", "core", "scored", 0.8),
    ("ill_1", "rim", "missed", 0.0),
    ("ill_2", "core", "scored", 0.6),
    ("ill_2", "rim", "false_positive_only", 0.0),
    ("well_1", "core", "absent", None),
    ("well_1", "rim", "absent", None),
    ("well_2", "core", "false_positive_only", 0.0),
    ("well_2", "rim", "absent", None),
]


def test_the_ill_have_a_dice_and_the_healthy_a_false_target_or_none() -> None:
    held = Held.of(ROWS)
    assert held.dice == pytest.approx({"ill_1": 0.4, "ill_2": 0.6})
    assert held.healthy == {"well_1": False, "well_2": True}
    assert held.text == "Dice mean 0.5000, median 0.5000 (2 cases); a false target in 1 of 2 healthy (50%)"


def test_the_table_of_a_run_is_read(trained: tuple[Path, Path]) -> None:
    run, _ = trained
    from medseg.metrics.table import MetricsTable

    held = Held.read([run / "eval" / "metrics.csv"])
    table = MetricsTable.read(run / "eval")
    assert held.dice.keys() | held.healthy.keys() == set(table.cases)
    expected = {}
    for score in table.scores:
        expected.setdefault(score.case, []).append(score.dice)
    assert held.dice == pytest.approx({case: sum(values) / len(values) for case, values in expected.items()})


def test_pairs_are_of_the_same_cases() -> None:
    ours = {f"c{n}": 0.5 + 0.01 * n for n in range(8)}
    assert paired(ours, ours | {"other": 0.0}) == "+0.0000, better in 0, worse in 0 of 8, p = 1"
    worse = {case: value - 0.1 - 0.001 * n for n, (case, value) in enumerate(ours.items())}
    # All eight ranks on one side: 2 / 2^8.
    assert paired(ours, worse) == "+0.1035, better in 8, worse in 0 of 8, p = 0.0078"
    assert paired(ours, {}) == "no case in common"


def test_data_are_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "CamVid").mkdir()
    monkeypatch.setenv("MEDSEG_TEST_DATA", str(tmp_path))
    assert find_data("CamVid") == tmp_path / "CamVid"
    assert told(find_data("CamVid")) == ["data.card=camvid"]
    with pytest.raises(SystemExit, match="LGG"):
        find_data("LGG")
