"""A volume of one slice, (X, Y, 1), among volumes: trained on, held out, cleaned and scored as they are."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medseg.workflows.evaluate import evaluate
from medseg.workflows.score import score
from medseg.workflows.train import train
from tests.conftest import draw, write_drawn
from tests.tiny import tiny_config

FLAT = "tiny_03"


def drawn() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number in range(4):
        image, label = draw(np.random.default_rng([0, number]), (20, 24, 16), 2, 1)
        part = slice(8, 9) if number == 3 else slice(None)
        yield image[..., part, 0], label[..., part]


@pytest.mark.slow
def test_every_verb(tmp_path: Path) -> None:
    labels, affine = ("background", "organ"), np.diag([1, 1, 2, 1])
    root = write_drawn(tmp_path / "data", drawn(), affine, labels=labels, channels=("T1",))
    run, output = tmp_path / "run", tmp_path / "scored"
    train(tiny_config(root, data__folds=2, training__max_epochs=1), run=run, fold="all")
    assert not list(run.rglob("failed.csv"))
    assert {row["case"] for row in rows(run / "eval/metrics.csv")} == {f"tiny_{number:02}" for number in range(4)}
    assert (run / "postprocessing.json").is_file()

    evaluate(run / "fold_0", data=root, output=output)
    report = score(output / "masks", root / "labelsTr", dataset=str(root / "dataset.json"), workers=1, progress=False)
    again = {one.case: one for one in report.table.scores}
    for row in rows(output / "metrics.csv"):
        assert float(row["dice"]) == pytest.approx(again[row["case"]].dice, abs=1e-6)
        assert float(row["surface_dice"]) == pytest.approx(again[row["case"]].surface_dice, abs=1e-6)
    assert FLAT in again


def rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.read_text().splitlines()))
