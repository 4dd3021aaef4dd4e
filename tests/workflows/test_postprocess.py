"""Cleaning chosen on held-out masks: what helps is kept, what does not is not, and predict and evaluate use it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.bundle.facts import describe_data
from medseg.config.load import dump_config
from medseg.config.postprocess import PostprocessConfig
from medseg.core.errors import ConfigError, PartialFailure, RunError
from medseg.engine.sidecar import read_sidecar
from medseg.metrics.table import MetricsTable
from medseg.runs.decision import SCHEMA, Decision, read_decided
from medseg.runs.folds import fold_runs
from medseg.workflows.evaluate import evaluate, evaluate_folds
from medseg.workflows.postprocess import postprocess
from medseg.workflows.predict import predict
from tests.conftest import write_msd
from tests.tiny import tiny_config

CASES, FOLDS = 8, 4
VOXEL_ML = 0.002

Spoil = Callable[[np.ndarray, int], None]


def folder_of_folds(root: Path, spoil: Spoil, **changes: object) -> Path:
    """A cross-validation as `train --fold all` leaves it, whose masks are the labels, spoilt; no network in it."""
    data = write_msd(root / "data", cases=CASES)
    names = [f"tiny_{number:02d}" for number in range(CASES)]
    folds = [{"train": [n for n in names if n not in names[k::FOLDS]], "val": names[k::FOLDS]} for k in range(FOLDS)]
    run = root / "run"
    for number, fold in enumerate(folds):
        folder = run / f"fold_{number}"
        (folder / "eval" / "masks").mkdir(parents=True)
        (folder / "models").mkdir()
        (folder / "models" / "model.pt").touch()
        config = tiny_config(data, data__fold=number, data__folds=FOLDS, **changes)
        (folder / "config.yaml").write_text(dump_config(config))
        (folder / "data.json").write_text(describe_data(config).to_json())
        (folder / "splits.json").write_text(json.dumps(folds))
        for name in fold["val"]:
            label = nib.load(data / "labelsTr" / f"{name}.nii.gz")
            mask = np.asarray(label.dataobj).copy()
            spoil(mask, int(name[-2:]))
            nib.save(nib.Nifti1Image(mask, label.affine), folder / "eval" / "masks" / f"{name}.nii.gz")
    (run / "splits.json").write_text(json.dumps(folds))
    return run


def tried(found: Mapping, step: str, target: str) -> list[dict]:
    return [one for one in found["evidence"]["tried"] if (one["step"], one["target"]) == (step, target)]


def stray_lesions(mask: np.ndarray, number: int) -> None:
    """A crumb of lesion in a corner of every mask; the organ in two halves of a size, both of them true."""
    mask[0:2, 0, 0] = 2
    mask[:, :, mask.shape[2] // 2][mask[:, :, mask.shape[2] // 2] == 1] = 0


@pytest.fixture(scope="module")
def strays(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    run = folder_of_folds(tmp_path_factory.mktemp("strays"), stray_lesions)
    return run, postprocess(run)


def test_a_step_is_kept_for_the_class_that_it_helps_and_not_for_the_other(strays: tuple[Path, dict]) -> None:
    run, found = strays
    steps = PostprocessConfig(**found["steps"])
    assert {step.target for step in steps.steps if step.kind != "fill_holes"} == {"lesion"}
    (kept,) = [one for one in found["evidence"]["tried"] if one["kept"]]
    assert kept["dice_after"] > kept["dice_before"]
    assert (kept["cases_better"], kept["cases_worse"]) == (CASES, 0)
    assert kept["lesions_invented"] == [CASES, 0]
    assert kept["lesions_found"] == [CASES, CASES]
    halves = tried(found, "keep_largest_component", "organ")
    assert halves
    assert all(not one["kept"] and one["why"] == "the mean falls" and one["cases_worse"] == CASES for one in halves)
    row = found["evidence"]["targets"]["lesion"]
    assert row["dice_after"] == row["dice_held_out"] == 1.0
    for folder in (run, *run.glob("fold_?")):
        kept = json.loads((folder / "postprocessing.json").read_text())
        assert kept.pop("sha256")
        assert kept == found


def test_the_figures_are_those_of_the_metrics_table(strays: tuple[Path, dict]) -> None:
    """Every Dice before, against this file's own arithmetic on the files."""
    run, found = strays
    for value, target in ((1, "organ"), (2, "lesion")):
        dice = []
        for mask in run.glob("fold_*/eval/masks/*.nii.gz"):
            a, b = (np.asarray(nib.load(f).dataobj) == value for f in (mask, run.parent / "data/labelsTr" / mask.name))
            dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert found["evidence"]["targets"][target]["dice_before"] == pytest.approx(np.mean(dice), abs=1e-12)


def test_thresholds_lie_around_what_was_invented(tmp_path: Path) -> None:
    """Two crumbs of lesion and a true one in two parts: a threshold between helps, the largest component does not."""

    def spoil(mask: np.ndarray, number: int) -> None:
        mask[0, 0, 0:2], mask[0, -1, 0:2] = 2, 2
        lesion = mask == 2
        lesion[:, :, mask.shape[2] // 2 + 1 :] = False
        lesion[:, :, : mask.shape[2] // 2] = False
        mask[lesion] = 1

    found = postprocess(folder_of_folds(tmp_path, spoil))
    # 2 voxels of 0.002 ml: the first round number above them
    assert found["steps"]["minimum_volume_ml"] == {"lesion": 0.005}
    assert found["steps"]["keep_largest_component"] == []
    assert {one["ml"] for one in tried(found, "minimum_volume_ml", "lesion")} == {0.005}
    largest = tried(found, "keep_largest_component", "lesion")[0]
    assert largest["dice_after"] < largest["dice_before"]


def test_an_invented_target_is_removed_where_there_is_little_of_it(tmp_path: Path) -> None:
    """BraTS's rule: half of the cases have no lesion, and a few voxels of one cost their whole Dice."""

    def spoil(mask: np.ndarray, number: int) -> None:
        if number % 2:
            mask[mask == 2] = 1
            mask[::5, 0, 0] = 2

    run = folder_of_folds(tmp_path, spoil)
    for file in (tmp_path / "data" / "labelsTr").glob("*[13579].nii.gz"):
        label = nib.load(file)
        values = np.asarray(label.dataobj).copy()
        values[values == 2] = 1
        nib.save(nib.Nifti1Image(values, label.affine), file)
    found = postprocess(run)
    row = found["evidence"]["targets"]["lesion"]
    assert row["dice_before"] == pytest.approx(0.5)
    assert row["dice_after"] == row["dice_held_out"] == 1.0
    # four crumbs of one voxel each: a least volume of a component does it, and so does one of all of them
    assert {one["target"] for one in found["evidence"]["tried"] if one["kept"]} == {"lesion"}
    assert any(one["dice_after"] == 1.0 for one in tried(found, "minimum_total_ml", "lesion"))


def test_nothing_is_kept_where_nothing_helps(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = folder_of_folds(tmp_path, lambda mask, number: None)
    found = postprocess(run)
    assert not any(found["steps"].values())
    assert found["crf"] is None
    assert "post-processing: nothing" in capsys.readouterr().out
    assert read_decided(run / "fold_0").config.inference.cleaning == {}


def test_one_case_alone_decides_nothing(tmp_path: Path) -> None:
    def spoil(mask: np.ndarray, number: int) -> None:
        if number == 3:
            mask[0:2, 0, 0] = 2

    found = postprocess(folder_of_folds(tmp_path, spoil))
    assert not any(found["steps"].values())
    assert {one["why"] for one in found["evidence"]["tried"]} == {"one case alone makes the gain"}


def test_what_only_one_fold_knows_is_not_kept(tmp_path: Path) -> None:
    """Both cases of one fold gain: the choice without that fold would not have been made, so nobody knows."""

    def spoil(mask: np.ndarray, number: int) -> None:
        if number % FOLDS == 2:
            mask[0:2, 0, 0] = 2

    found = postprocess(folder_of_folds(tmp_path, spoil))
    assert not any(found["steps"].values())
    assert "without the fold" in found["evidence"]["targets"]["lesion"]["dropped"]


def test_the_config_s_own_steps_stay_and_are_not_tried(tmp_path: Path) -> None:
    run = folder_of_folds(tmp_path, stray_lesions, inference__keep_largest_component=["lesion"])
    found = postprocess(run)
    assert not any(found["steps"].values())
    assert not tried(found, "keep_largest_component", "lesion")
    assert found["evidence"]["targets"]["lesion"]["dice_before"] == 1.0


def test_masks_that_are_not_there(tmp_path: Path) -> None:
    run = folder_of_folds(tmp_path, stray_lesions)
    (run / "fold_1" / "eval" / "masks" / "tiny_05.nii.gz").unlink()
    with pytest.raises(PartialFailure, match=r"tiny_05: has no mask.*\n.*medseg evaluate") as failure:
        postprocess(run)
    assert failure.value.result["evidence"]["left_out"] == ["tiny_05"]
    assert failure.value.result["evidence"]["cases"] == CASES - 1
    shutil.rmtree(run / "fold_1" / "eval")
    with pytest.raises(RunError, match="tiny_01: has no mask"):
        postprocess(run)
    with pytest.raises(RunError, match="fewer than two trained folds"):
        postprocess(run / "fold_0")
    (run / "fold_1" / "eval").mkdir()


def test_a_crf_that_is_none(strays: tuple[Path, dict]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'deeplabv2'"):
        postprocess(strays[0], crf="deeplab_v2")


@pytest.fixture(scope="module")
def decided(crossed: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two trained folds with a decision that removes every lesion."""
    run = tmp_path_factory.mktemp("decided") / "run"
    shutil.copytree(crossed[0], run)
    steps = PostprocessConfig(minimum_total_ml={"lesion": 1000.0}, fill_holes=["organ"])
    for folder in (run, run / "fold_0", run / "fold_1"):
        Decision(**{"schema": SCHEMA, "steps": steps}).write(folder)
    return run, crossed[1]


def test_training_all_folds_ends_with_a_decision(crossed: tuple[Path, Path]) -> None:
    run, _ = crossed
    found = json.loads((run / "postprocessing.json").read_text())
    assert found["evidence"]["cases"] == 4
    table = MetricsTable.read(run / "eval").summary()["targets"]
    for target, row in found["evidence"]["targets"].items():
        assert row["dice_before"] == pytest.approx(table[target]["dice"], abs=1e-12)


def test_predict_uses_the_decision_and_says_so(
    decided: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, root = decided
    (mask,) = predict([run], input=root / "imagesTs", output=tmp_path / "clean")
    assert "masks are cleaned: lesion from 1000 ml in all, holes of organ filled" in capsys.readouterr().out
    (single,) = predict(run / "fold_0", input=root / "imagesTs", output=tmp_path / "single")
    options = {"input": root / "imagesTs", "postprocess": False}
    (raw,) = predict([run], output=tmp_path / "raw", **options)
    before, after, one = (np.asarray(nib.load(path).dataobj) for path in (raw, mask, single))
    assert (before == 2).any(), "the tiny networks find some lesion"
    assert not (after == 2).any()
    assert not (one == 2).any()
    sidecar = json.loads((mask.parent / "medseg" / mask.name.replace(".nii.gz", ".json")).read_text())
    done = {"minimum_total_ml": {"lesion": 1000.0}, "fill_holes": ["organ"]}
    assert sidecar["postprocessing"] == done | {"changed_voxels": int((before != after).sum())}
    assert sidecar["volume_ml"]["lesion"] == 0
    assert "postprocessing" not in read_sidecar(raw.parent, raw.name.removesuffix(".nii.gz"))


@pytest.mark.slow
def test_evaluate_uses_the_decision_and_keeps_the_masks_before_it(decided: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(decided[0], run)
    raw = {file.name: file.read_bytes() for file in run.glob("fold_*/eval/masks/*.nii.gz")}
    summary = evaluate_folds(run)
    assert summary["postprocessing"] == {"minimum_total_ml": {"lesion": 1000.0}, "fill_holes": ["organ"]}
    assert summary["targets"]["lesion"]["states"]["scored"] == 0
    kept = {file.name: file.read_bytes() for file in run.glob("fold_*/eval/masks_raw/*.nii.gz")}
    before, again = (
        {k: np.asarray(nib.Nifti1Image.from_bytes(_plain(v)).dataobj) for k, v in m.items()} for m in (raw, kept)
    )
    assert before.keys() == again.keys()
    assert all(np.array_equal(before[name], again[name]) for name in before)
    found = postprocess(run)  # from the masks before it, not from its own
    first = json.loads((run / "postprocessing.json").read_text())
    assert found.items() <= first.items()
    table = MetricsTable.read(decided[0] / "eval").summary()["targets"]
    assert found["evidence"]["targets"]["lesion"]["dice_before"] == pytest.approx(table["lesion"]["dice"], abs=1e-12)
    summary = evaluate(run / "fold_0", postprocess=False)
    assert "postprocessing" not in summary


@pytest.mark.slow
@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_decision_is_of_all_folds_or_of_none(
    decided: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(decided[0], run)
    for file in run.rglob("postprocessing.json"):
        file.unlink()
    steps, write = PostprocessConfig(minimum_total_ml={"lesion": 1000.0}), Decision.write
    done: list[Path] = []

    def dying(decision: Decision, folder: Path) -> None:
        if len(done) == written:
            raise KeyboardInterrupt
        done.append(folder)
        write(decision.model_copy(update={"steps": steps}), folder)

    monkeypatch.setattr(Decision, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        postprocess(run)
    summary = evaluate_folds(run, again=True)
    expected = steps.cleaning if written else None
    assert summary.get("postprocessing") == expected
    for fold in fold_runs(run):
        assert MetricsTable.read(fold / "eval").summary().get("postprocessing") == expected


def test_tables_of_masks_that_were_cleaned_otherwise_are_not_joined(decided: tuple[Path, Path]) -> None:
    tables = [MetricsTable.read(fold / "eval") for fold in fold_runs(decided[0])]
    tables[1].postprocessing = {"fill_holes": ["organ"]}
    with pytest.raises(RunError, match="cleaned by different steps"):
        MetricsTable.joined(tables)


def _plain(compressed: bytes) -> bytes:
    import gzip

    return gzip.decompress(compressed)


@pytest.mark.slow
def test_the_crf_is_tried_by_predicting_again(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(crossed[0], run)
    found = postprocess(run, crf="deeplabv2")
    before = {file.name for file in run.glob("fold_*/eval/masks/*.nii.gz")}
    assert {file.name for file in run.glob("fold_*/eval-crf/masks/*.nii.gz")} == before
    rows = found["evidence"]["crf_tried"]
    assert rows["kept"] == (found["crf"] is not None)
    assert set(rows["targets"]) == {"organ", "lesion"}
    tables = [MetricsTable.read(run / f"fold_{k}" / "eval-crf").scores for k in (0, 1)]
    dice = [score.dice for table in tables for score in table if score.target == "organ" and score.dice is not None]
    assert rows["targets"]["organ"]["dice_after"] == pytest.approx(np.mean(dice), abs=1e-12)
