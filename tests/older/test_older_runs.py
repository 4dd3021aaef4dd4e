"""Runs of an older commit: the same masks, the same scores, the same names of weights, and training that goes on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from medseg.networks import NETWORKS, build_network
from medseg.workflows.evaluate import evaluate_folds
from tests.conftest import MadeOnce
from tests.older.make_runs import COMMIT, PREDICTED, SMALL, make, medseg, weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first of them trains the runs

FOLDS = ("folds/fold_0", "folds/fold_1")
RUNS = ("regions", *FOLDS, "auxiliary", "pictures")


@pytest.fixture(scope="module")
def older(made_once: MadeOnce) -> Path:
    """The folder that `make_runs.py` describes; read only."""
    try:
        return made_once("older", make)
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture
def copied(older: Path, tmp_path: Path) -> Path:
    """Its runs, to write into."""
    return shutil.copytree(older / "runs", tmp_path / "runs")


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Pillow.open(file) if file.suffix == ".png" else nib.load(file).dataobj)


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {file.name: pixels(file) for file in sorted(folder.iterdir()) if file.suffix in (".png", ".gz")}


def scores(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


def assert_same_masks(folder: Path, expected: Path) -> None:
    found, wanted = masks(folder), masks(expected)
    assert found.keys() == wanted.keys() != set()
    for name, mask in wanted.items():
        assert len(np.unique(mask)) > 1, "an empty mask shows nothing"
        assert found[name].dtype == mask.dtype
        assert np.array_equal(found[name], mask), name


def assert_holds(found: Any, wanted: Any, where: str = "") -> None:
    """Everything that the older file says is said by the newer one, which may say more."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert key in found, f"{where}: no {key} any more"
            assert_holds(found[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for number, value in enumerate(wanted):
            assert_holds(found[number], value, f"{where}[{number}]")
    else:
        assert found == wanted, where


@pytest.mark.parametrize("name", PREDICTED)
def test_masks_are_the_same(older: Path, copied: Path, tmp_path: Path, name: str) -> None:
    predicted, source = PREDICTED[name]
    given = [word for run in predicted for word in ("--run", copied / run)]
    medseg("predict", *given, "--input", older / source, "--output", tmp_path / "masks")
    assert_same_masks(tmp_path / "masks", older / "masks" / name)
    volumes = [folder / "volumes.csv" for folder in (tmp_path / "masks", older / "masks" / name)]
    if "volumes" in source:  # slices had volumes then, and have shares of their area now
        assert volumes[0].read_bytes() == volumes[1].read_bytes()


def test_an_older_decision_is_used_and_can_be_left_out(older: Path, copied: Path, tmp_path: Path) -> None:
    predicted, source = PREDICTED["fold"]
    arguments = ["predict", "--run", copied / predicted[0], "--input", older / source, "--output", tmp_path / "masks"]
    medseg(*arguments, "--no-postprocess")
    assert_same_masks(tmp_path / "masks", older / "masks" / "fold, not cleaned")
    cleaned = masks(older / "masks" / "fold")
    assert all((cleaned[name] != mask).any() for name, mask in masks(tmp_path / "masks").items())


@pytest.mark.parametrize("name", RUNS)
def test_scores_and_held_out_cases_are_the_same(older: Path, copied: Path, name: str) -> None:
    shutil.rmtree(copied / name / "eval")
    medseg("evaluate", "--run", copied / name)
    expected = older / "runs" / name / "eval"
    assert scores(expected)["cases"] > 0
    assert_holds(scores(copied / name / "eval"), scores(expected))
    found, wanted = masks(copied / name / "eval" / "masks"), masks(expected / "masks")
    assert found.keys() == wanted.keys(), "the same cases are held out"
    assert all(np.array_equal(found[case], mask) for case, mask in wanted.items())


def test_older_tables_are_read(older: Path, copied: Path) -> None:
    """The table of all folds is put together from the folds' own files, which are not made anew."""
    (copied / "folds" / "eval" / "metrics.json").unlink()
    before = {fold: (copied / fold / "eval" / "metrics.json").stat().st_mtime_ns for fold in FOLDS}
    evaluate_folds(copied / "folds")
    assert before == {fold: (copied / fold / "eval" / "metrics.json").stat().st_mtime_ns for fold in FOLDS}
    assert_holds(scores(copied / "folds" / "eval"), scores(older / "runs" / "folds" / "eval"))
    lesions = [json.loads((run / "folds" / "eval" / "lesions.json").read_text()) for run in (copied, older / "runs")]
    assert_holds(*lesions)


@pytest.mark.parametrize("name", ["regions", "auxiliary", "pictures"])
def test_training_goes_on(older: Path, copied: Path, name: str) -> None:
    """Two epochs more; what was trained before stays in the history."""
    before, run = older / "runs" / name, copied / name
    medseg("train", "--config", run / "config.yaml", "--run", run, "--set", "training.max_epochs=3")
    rows = [list(csv.DictReader((folder / "history.csv").open())) for folder in (before, run)]
    assert [row["epoch"] for row in rows[1]] == ["1", "2", "3"]
    assert_holds(rows[1][:1], rows[0])
    states = [torch.load(folder / "models" / "checkpoint.pt", weights_only=True) for folder in (before, run)]
    assert [state["epoch"] for state in states] == [1, 3]
    assert states[0]["network"].keys() == states[1]["network"].keys()
    assert not all(torch.equal(value, states[1]["network"][key]) for key, value in states[0]["network"].items())
    assert states[1]["history"][0] == states[0]["history"][0]


def test_weights_have_the_names_and_shapes_that_they_had(older: Path) -> None:
    assert {form.split(",")[0] for form in SMALL} >= NETWORKS.keys(), "a new network: give it a form in SMALL"
    found, expected = weights(build_network), json.loads((older / "weights.json").read_text())
    assert {form: found[form] for form in expected} == expected, f"other names or shapes than at {COMMIT[:7]}"


def test_without_the_history_there_is_nothing_to_make(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no commit 0000000 in the history"):
        make(tmp_path, "0" * 40)
