"""No case is predicted twice by the same weights: `train`, `evaluate`, `postprocess` and the report share the masks."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.engine.evaluator import SegmentationEvaluator
from medseg.engine.resume import load_safely, save_atomically
from medseg.engine.sidecar import read_sidecar
from medseg.workflows.evaluate import evaluate
from medseg.workflows.train import train
from tests.pictures import of_pairs, write_pairs
from tests.tiny import tiny_config
from tests.workflows.test_changes import replaced

Calls = Counter[tuple[str, str]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """How often the network was applied to each case, as ("validated" or "predicted", case)."""
    counted: Calls = Counter()
    original = SegmentationEvaluator.predict

    def predict(self: SegmentationEvaluator, batch: dict) -> object:
        counted["validated" if self.postprocess is None else "predicted", batch["case"]] += 1
        return original(self, batch)

    monkeypatch.setattr(SegmentationEvaluator, "predict", predict)
    return counted


def predicted(calls: Calls) -> dict[str, int]:
    """Case -> how often it was predicted since the last time."""
    found = {case: count for (kind, case), count in calls.items() if kind == "predicted"}
    calls.clear()
    return found


def scores(run: Path) -> list[dict]:
    return json.loads((run / "eval" / "metrics.json").read_text())["scores"]


def test_train_and_evaluate_predict_each_held_out_case_once(
    tiny_msd, tmp_path: Path, calls: Calls, capsys: pytest.CaptureFixture
) -> None:
    root, run = tiny_msd(cases=8), tmp_path / "run"
    train(tiny_config(root), run=run)
    held_out = json.loads((run / "split.json").read_text())["validation"]
    assert predicted(calls) == dict.fromkeys(held_out, 1)
    before = scores(run)
    capsys.readouterr()
    evaluate(run)
    assert predicted(calls) == {}
    assert scores(run) == before
    assert "2 of 2 cases have masks by these weights" in capsys.readouterr().out
    evaluate(run, output=tmp_path / "elsewhere")
    train(tiny_config(root), run=run)  # the finished run, once more
    assert predicted(calls) == {}
    for name in held_out:
        one, other = (
            nib.load(folder / "masks" / f"{name}.nii.gz") for folder in (run / "eval", tmp_path / "elsewhere")
        )
        assert np.array_equal(one.dataobj, other.dataobj)
        assert np.array_equal(one.affine, other.affine)
    assert (tmp_path / "elsewhere" / "report.html").is_file()

    evaluate(run, anew=True)
    assert predicted(calls) == dict.fromkeys(held_out, 1)
    assert scores(run) == before


def test_what_makes_another_mask_is_predicted_again(trained: tuple[Path, Path], tmp_path: Path, calls: Calls) -> None:
    run, root = tmp_path / "run", tmp_path / "data"
    shutil.copytree(trained[1], root)
    shutil.copytree(trained[0], run, ignore=shutil.ignore_patterns("cache"))
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(str(trained[1]), str(root)))
    first, second = json.loads((run / "split.json").read_text())["validation"]
    evaluate(run)
    assert predicted(calls) == {}, "a moved data set is the same one"

    mask = run / "eval" / "masks" / f"{first}.nii.gz"
    edited = nib.load(mask)
    nib.save(nib.Nifti1Image(np.zeros(edited.shape, np.uint8), edited.affine), mask)
    evaluate(run)
    assert predicted(calls) == {first: 1}, "somebody has edited this mask"

    os.utime(root / "imagesTr" / f"{second}.nii.gz", (1, 1))
    evaluate(run)
    assert predicted(calls) == {}, "touched, but the same image"

    replaced("images")(root, [second])
    evaluate(run, accept_changes=True)
    assert predicted(calls) == {second: 1}, "another image, as large and said to be as old"
    evaluate(run, accept_changes=True)
    assert predicted(calls) == {}

    label = root / "labelsTr" / f"{second}.nii.gz"
    truth = nib.load(label)
    nib.save(nib.Nifti1Image(np.zeros(truth.shape, np.uint8), truth.affine), label)
    evaluate(run, accept_changes=True)
    assert predicted(calls) == {}
    states = {score["state"] for score in scores(run) if score["case"] == second}
    assert states <= {"absent", "false_positive_only"}, "scored against the label as it is now"

    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("overlap: 0.5", "overlap: 0.25"))
    evaluate(run, accept_changes=True)
    assert predicted(calls) == {first: 1, second: 1}, "other windows"
    weights = run / "models" / "model.pt"
    save_atomically({name: value + 1e-3 for name, value in load_safely(weights).items()}, weights)
    evaluate(run, accept_changes=True)
    assert predicted(calls) == {first: 1, second: 1}, "other weights"


def test_cleaning_begins_with_the_masks_that_are_there(
    crossed: tuple[Path, Path], tmp_path: Path, calls: Calls
) -> None:
    run = tmp_path / "run"
    shutil.copytree(crossed[0], run)
    raw = {fold: scores(run / fold) for fold in ("fold_0", "fold_1")}
    steps = {"schema": "medseg-postprocessing/1", "steps": {"keep_largest_component": ["organ", "lesion"]}}
    for folder in (run, *(run / fold for fold in raw)):
        (folder / "postprocessing.json").write_text(json.dumps(steps))
    evaluate(run)
    for fold in raw:
        table = json.loads((run / fold / "eval" / "metrics.json").read_text())
        assert table["postprocessing"] == steps["steps"]
        for name in {score["case"] for score in table["scores"]}:
            assert "postprocessing" in read_sidecar(run / fold / "eval" / "masks", name)
            assert "postprocessing" not in read_sidecar(run / fold / "eval" / "masks_raw", name)
    evaluate(run)  # from the masks before the cleaning, not from the cleaned ones
    evaluate(run, postprocess=False)
    assert {fold: scores(run / fold) for fold in raw} == raw
    assert predicted(calls) == {}


def test_a_budget_in_minutes_validates_a_few_cases_and_predicts_each_once(
    tiny_msd, tmp_path: Path, calls: Calls, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = SegmentationEvaluator.predict

    def slow(self: SegmentationEvaluator, batch: dict) -> object:
        time.sleep(0.1)
        return counted(self, batch)

    monkeypatch.setattr(SegmentationEvaluator, "predict", slow)
    root, run, minutes = tiny_msd(cases=10), tmp_path / "run", 0.1
    config = tiny_config(root, data__validation=0.4, training__max_minutes=minutes, training__iterations_per_epoch=1)
    train(config, run=run)
    validated = {case: count for (kind, case), count in calls.items() if kind == "validated"}
    held_out = json.loads((run / "split.json").read_text())["validation"]
    assert predicted(calls) == dict.fromkeys(held_out, 1)
    assert len(validated) == 1, "two cases would take more than half of 5 % of six seconds"

    spent = json.loads((run / "time.json").read_text())
    assert spent["budget"] == 60 * minutes
    rows = list(csv.DictReader((run / "history.csv").open()))
    assert [bool(row["val/mean_dice"]) for row in rows].count(True) == sum(validated.values()) <= 3
    assert float(rows[-1]["validation_minutes"]) == pytest.approx(spent["validation"] / 60)
    assert float(rows[-1]["minutes"]) == pytest.approx((spent["training"] + spent["validation"]) / 60, rel=0.1)
    assert f"share of the {minutes:g} minutes: training" in capsys.readouterr().out
    before = (run / "time.json").read_text()
    train(config, run=run)
    evaluate(run)
    assert not calls, "a finished run is finished"
    assert (run / "time.json").read_text() == before


@pytest.mark.slow
def test_pictures_of_a_benchmark_too(tmp_path: Path, calls: Calls) -> None:
    config = of_pairs(write_pairs(tmp_path / "pairs", val=3), "training.max_minutes=0.05")
    run = train(config, run=tmp_path / "run")
    held_out = json.loads((run / "split.json").read_text())["validation"]
    assert predicted(calls) == dict.fromkeys(held_out, 1)
    before = json.loads((run / "eval" / "metrics.json").read_text())
    masks = {file.name: file.read_bytes() for file in (run / "eval" / "masks").glob("*.png")}
    assert evaluate(run)["mean_iou"] == before["mean_iou"]
    assert predicted(calls) == {}
    assert json.loads((run / "eval" / "metrics.json").read_text()) == before
    assert {file.name: file.read_bytes() for file in (run / "eval" / "masks").glob("*.png")} == masks
