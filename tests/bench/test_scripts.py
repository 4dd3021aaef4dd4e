"""The comparisons run to their end on tiny data: the same cases on both sides, and every figure in the table."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bench_pieces import Pieces
from folds import CrossValidation, text
from nnunet import Comparison
from nnunet_raw import lay_out
from PIL import Image as Pillow

from medseg.bundle.facts import describe_data
from medseg.data.cases.dataset import read_dataset
from medseg.data.files.images import read_image
from tests.pictures import of_pairs, write_pairs


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cross_validation_runs_fold_by_fold(
    tiny_msd: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tiny_msd(cases=4), tmp_path / "out"
    assert CrossValidation(data, 0.1, Pieces(output)).run([1]) == 0
    first = json.loads((output / "results.json").read_text())
    assert set(first) == {"plan", "fold 1"}
    capsys.readouterr()
    assert CrossValidation(data, 0.1, Pieces(output)).run(None) == 0
    rows = json.loads((output / "results.json").read_text())
    assert set(rows) == {"plan", "fold 0", "fold 1", "postprocess"}
    assert rows["fold 1"] == first["fold 1"]
    held_out = [set(rows[f"fold {number}"]["dice"]) for number in (0, 1)]
    assert held_out[0] | held_out[1] == {case.name for case in read_dataset(data).cases}
    assert not held_out[0] & held_out[1]
    for number in (0, 1):
        row = rows[f"fold {number}"]
        assert row["steps"] > 0
        assert 5 < row["training"] < row["seconds"]
        assert row["training"] + row["validation"] + row["scoring"] < row["seconds"]
    printed = capsys.readouterr().out
    assert "out of fold: Dice mean" in printed
    assert "(4 cases)" in printed
    assert "in 2 sittings" in text(rows | {"fold 0": rows["fold 0"] | {"begun": 2}}, 0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [None, pytest.param(2, marks=pytest.mark.campaign)], ids=["fold", "every"])
def test_both_sides_have_the_same_cases(tiny_msd: Callable[..., Path], tmp_path: Path, every: int | None) -> None:
    data = tiny_msd(cases=4)
    options = Namespace(
        data=str(data),
        minutes=0.1,
        fold=0,
        every=every,
        output=tmp_path / "out",
        sides=["medseg"],
        prediction=["default", "plain"],
        until=None,
        again=False,
        peer_python=sys.executable,
    )
    Comparison(options).run()
    folder = tmp_path / "out" / ("every_2" if every else "fold_0")
    (split,) = json.loads((folder / "splits_final.json").read_text())
    run = json.loads((folder / "medseg_0.1" / "fold_0" / "split.json").read_text())
    assert (sorted(split["train"]), sorted(split["val"])) == (sorted(run["training"]), sorted(run["validation"]))
    raw = folder / "raw" / "Dataset004_Bench"
    assert {path.name for path in (raw / "labelsTr").iterdir()} == {
        f"{case}.nii.gz" for case in split["train"] + split["val"]
    }
    assert json.loads((raw / "dataset.json").read_text())["labels"] == {"background": 0, "organ": 1, "lesion": 2}
    rows = json.loads((folder / "results.json").read_text())
    scores = [rows[f"score medseg 0.1 {how}"] for how in ("default", "plain")]
    assert set(scores[0]["dice"]) == set(split["val"])
    assert scores[0]["failed_cases"] == []
    evaluated = json.loads((folder / "medseg_0.1" / "fold_0" / "eval" / "metrics.json").read_text())
    assert scores[0]["targets"] == pytest.approx({name: row["dice"] for name, row in evaluated["targets"].items()})
    assert scores[1]["targets"] == scores[0]["targets"]  # on a CPU nothing is mirrored


def test_pictures_are_laid_out_without_loss(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "pairs")
    config = of_pairs(root)
    dataset = read_dataset(root, config.data.layout)
    assert lay_out(root, dataset.cases, describe_data(config, dataset), tmp_path / "raw") == ".png"
    for case in dataset.cases:
        written = np.asarray(Pillow.open(tmp_path / "raw" / "imagesTr" / f"{case.name}_0000.png"))
        assert np.array_equal(written.transpose(2, 0, 1), read_image(case.first).array)
        label = np.asarray(Pillow.open(tmp_path / "raw" / "labelsTr" / f"{case.name}.png"))
        assert np.array_equal(label, case.read_label().array[0])
    description = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "red", "1": "green", "2": "blue"}
    assert description["numTraining"] == len(dataset.cases)
