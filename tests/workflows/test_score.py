"""`medseg score` and `medseg submission` on folders of real files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as Official
from cityscapesscripts.helpers.labels import trainId2label
from PIL import Image
from typer.testing import CliRunner

from medseg.bundle.facts import DataFacts
from medseg.cli import app
from medseg.config.cards import load_card
from medseg.config.load import load_config
from medseg.core.errors import ConfigError, DataError, PartialFailure
from medseg.core.labels import Labels
from medseg.runs import described as of_run
from medseg.workflows.score import score
from medseg.workflows.submission import write_submission

CITIES = ("aachen", "bochum")


def save(path: Path, array: Any, kind: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=kind)).save(path)
    return path


def cityscapes(folder: Path, cases: int = 8, *, instances: bool = True) -> tuple[Path, Path]:
    """(predictions, data set): the data set in its own layout, the predictions under the names of the images."""
    rng = np.random.default_rng(5)
    for number in range(cases):
        case = f"{CITIES[number % 2]}_{number:06}_000019"
        truth = rng.integers(0, 34, (6, 10)).repeat(4, 0).repeat(4, 1)
        beside = folder / "data" / "gtFine" / "val" / case.split("_")[0]
        save(beside / f"{case}_gtFine_labelIds.png", truth)
        save(beside / f"{case}_gtFine_color.png", np.zeros((24, 40, 3)))
        if instances:
            numbers = np.where(truth >= 24, truth * 1000 + np.arange(40) // 16, truth)
            save(beside / f"{case}_gtFine_instanceIds.png", numbers, np.uint16)
        wrong = rng.random(truth.shape) < 0.3
        save(folder / "masks" / f"{case}_leftImg8bit.png", np.where(wrong, rng.integers(0, 34, truth.shape), truth))
    return folder / "masks", folder / "data"


def voc(folder: Path, cases: int = 3) -> tuple[Path, Path]:
    rng = np.random.default_rng(6)
    for number in range(cases):
        truth = rng.permutation(22 * 30).reshape(22, 30) % 22
        save(folder / "labels" / f"2007_{number:06}.png", np.where(truth == 21, 255, truth))
        save(folder / "masks" / f"2007_{number:06}.png", rng.integers(0, 21, truth.shape))
    return folder / "masks", folder / "labels"


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


# --- figures -------------------------------------------------------------------------------------------------------


def test_cityscapes_folders_equal_the_official_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, data = cityscapes(tmp_path)
    monkeypatch.setattr(np, "in1d", lambda array, values: np.isin(array, values).ravel(), raising=False)
    for name, value in {
        "quiet": True,
        "JSONOutput": False,
        "predictionPath": str(masks),
        "predictionWalk": None,
    }.items():
        monkeypatch.setattr(Official.args, name, value)
    labels = sorted(map(str, data.rglob("*_gtFine_labelIds.png")))
    oracle = Official.evaluateImgLists(
        [Official.getPrediction(Official.args, file) for file in labels], labels, Official.args
    )
    summary = score(masks, data, dataset="cityscapes").as_dict()
    assert summary["cases"] == 8
    assert summary["mean_iou"] == pytest.approx(oracle["averageScoreClasses"], abs=1e-12)
    assert summary["mean_iiou"] == pytest.approx(oracle["averageScoreInstClasses"], abs=1e-12)
    assert summary["mean_category_iou"] == pytest.approx(oracle["averageScoreCategories"], abs=1e-12)
    assert summary["mean_category_iiou"] == pytest.approx(oracle["averageScoreInstCategories"], abs=1e-12)


def test_figures_do_not_depend_on_the_processes(tmp_path: Path) -> None:
    masks, data = cityscapes(tmp_path, cases=17)
    one = score(masks, data, dataset="cityscapes", workers=1).as_dict()
    assert score(masks, data, dataset="cityscapes", workers=2).as_dict() == one


def test_train_ids_are_the_same_masks(tmp_path: Path) -> None:
    masks, data = cityscapes(tmp_path, instances=False)
    back = {label.id: number for number, label in trainId2label.items() if 0 <= number < 255}
    for file in masks.iterdir():
        values = np.asarray(Image.open(file))
        save(tmp_path / "train_ids" / file.name, np.vectorize(lambda value: back.get(value, 255))(values))
    ids = score(tmp_path / "train_ids", data, dataset="cityscapes", train_ids=True)
    plain = score(masks, data, dataset="cityscapes")
    assert ids.as_dict() == plain.as_dict()
    assert "mean_iiou" not in plain.as_dict()
    assert "no iIoU" in plain.text()


def test_any_picture_format_and_palette(tmp_path: Path) -> None:
    masks, labels = voc(tmp_path)
    expected = score(masks, labels, dataset="voc2012").as_dict()
    for file in masks.iterdir():
        picture = Image.open(file)
        picture.putpalette([7] * 768)  # the colours mean nothing
        (tmp_path / "other" / "deeper").mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "other" / "deeper" / file.name)
        Image.open(file).convert("RGB").save(tmp_path / "other" / f"{file.stem}.jpg")  # an overlay beside the masks
        save(tmp_path / "tiff" / f"{file.stem}.tif", np.asarray(Image.open(file)), np.uint16)
    assert score(tmp_path / "other", labels, dataset="voc2012").as_dict() == expected
    assert score(tmp_path / "tiff", labels, dataset="voc2012").as_dict() == expected


def test_volumes_by_the_medical_and_by_a_pooled_convention(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    for number in range(2):
        for folder in ("truth", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            volume = rng.integers(0, 3, (6, 7, 8)).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / folder / f"hippocampus_{number}.nii.gz")
    report = score(tmp_path / "masks", tmp_path / "truth", dataset="task04_hippocampus", tolerance_mm=2.0)
    medical = report.as_dict()
    assert medical["convention"] == "medical"
    assert medical["tolerance_mm"] == 2.0
    assert set(medical["targets"]) == {"anterior", "posterior"}
    pooled = score(tmp_path / "masks", tmp_path / "truth", dataset="task04_hippocampus", convention="voc").as_dict()
    assert pooled["convention"] == "voc"
    assert pooled["classes"]["anterior"]["iou"] == pytest.approx(medical["targets"]["anterior"]["micro"]["iou"])
    moved = affine.copy()
    moved[0, 3] = 5.0
    nibabel.save(nibabel.Nifti1Image(volume, moved), tmp_path / "masks" / "hippocampus_1.nii.gz")
    left = score(tmp_path / "masks", tmp_path / "truth", dataset="task04_hippocampus")
    assert [problem.where for problem in left.problems] == ["hippocampus_1"]
    assert "another grid" in left.problems[0].what


def test_real_samples(test_data: Path) -> None:
    ade = test_data / "ADEChallengeData2016_sample"
    report = score(ade / "predictions", ade, dataset="ade20k").as_dict()
    assert (report["pixel_accuracy"], report["cases"]) == (1.0, 3)
    assert report["mean_iou"] == pytest.approx((150 - len(report["absent"])) / 150)
    street = test_data / "cityscapes_sample"
    assert score(street / "gtFine" / "val", street, dataset="cityscapes").as_dict()["mean_iiou"] == 1.0
    frames = test_data / "CamVid" / "valannot"
    with pytest.raises(DataError, match=r"11 \(\d+ pixels\)"):  # it is no class: a label is no prediction
        score(frames, frames, dataset="camvid", workers=1)


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_cohort_with_failed_cases_ends_with_1(tmp_path: Path) -> None:
    masks, labels = voc(tmp_path, cases=6)
    save(masks / "2007_000000.png", np.zeros((22, 29)))  # another size
    save(masks / "2007_000001.png", np.full((22, 30), 255))
    (masks / "2007_000002.png").unlink()
    (masks / "2007_000003.png").write_bytes(b"no picture")
    save(masks / "2007_000004.png", np.zeros((22, 30, 3)))
    save(masks / "2007_999999.png", np.zeros((22, 30)))
    options = ("--prediction", masks, "--truth", labels, "--dataset", "voc2012")
    result = run(*options, "--json")
    summary = json.loads(result.stdout)
    assert isinstance(result.exception, PartialFailure)
    assert result.exception.exit_code == 1
    reasons = {problem["where"]: problem["what"] for problem in summary["problems"]}
    assert list(reasons) == ["2007_000002", *(f"2007_{number:06}" for number in (0, 1, 3, 4))]
    assert "22 x 29" in reasons["2007_000000"]
    assert "2007_000001.png" in reasons["2007_000001"]
    assert "255 (660 pixels)" in reasons["2007_000001"]
    assert "no prediction" in reasons["2007_000002"]
    assert "unreadable" in reasons["2007_000003"]
    assert "3 channels" in reasons["2007_000004"]
    assert summary["cases"] == 1
    assert summary["without_truth"] == ["2007_999999"]
    text = run(*options).stdout
    assert "5 cases failed and are in none of these figures" in text
    assert "2007_999999" in text
    only = tmp_path / "val.txt"
    only.write_text("2007_000005\n")
    assert run(*options, "--cases", only).exit_code == 0


def test_mistakes_that_leave_nothing_to_score(tmp_path: Path) -> None:
    masks, labels = voc(tmp_path)
    (tmp_path / "empty").mkdir()
    for prediction, truth, options, message in (
        (tmp_path / "nowhere", labels, {}, "no such folder"),
        (tmp_path / "empty", labels, {}, "no mask"),
        (masks, labels, {"dataset": "voc2021"}, "did you mean 'voc2012'"),
        (masks, labels, {"convention": "vok"}, "did you mean 'voc'"),
        (masks, labels, {"dataset": "cityscapes"}, r"named <city>"),
        (labels, labels, {"dataset": "voc2012"}, "255 is never a class"),
        (cityscapes(tmp_path / "city")[0], labels, {}, "holds none of the predictions"),
    ):
        with pytest.raises((ConfigError, DataError), match=message) as caught:
            score(prediction, truth, **({"dataset": "voc2012"} | options))
        assert caught.value.exit_code == 2


def test_ambiguous_and_incomplete_cases(tmp_path: Path) -> None:
    masks, data = cityscapes(tmp_path, cases=4)
    case = "aachen_000000_000019"
    save(masks / f"{case}_gtFine_color.png", np.zeros((24, 40, 3)))
    next(data.rglob("bochum_000001*instanceIds.png")).unlink()
    report = score(masks, data, dataset="cityscapes")
    assert {problem.where for problem in report.problems} == {case, "bochum_000001_000019"}
    assert "several masks" in report.problems[0].what
    assert "instanceIds" in report.problems[1].what
    save(masks / f"{case}_labelIds.png", np.zeros((24, 40)))  # says itself which one is meant
    assert len(score(masks, data, dataset="cityscapes").problems) == 1
    (data / "gtFine" / "val" / "twice").mkdir()
    label = next(data.rglob(f"{case}_gtFine_labelIds.png"))
    (data / "gtFine" / "val" / "twice" / label.name).write_bytes(label.read_bytes())
    with pytest.raises(DataError, match="several masks"):
        score(masks, data, dataset="cityscapes")


def test_no_progress_bar_without_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    masks, labels = voc(tmp_path)
    score(masks, labels, dataset="voc2012")
    assert capfd.readouterr().err == ""


# --- submissions ---------------------------------------------------------------------------------------------------


def test_cityscapes_submission_from_train_ids(tmp_path: Path) -> None:
    train_ids = np.arange(19).repeat(4).reshape(2, 38)
    save(tmp_path / "masks" / "berlin_000000_000019_leftImg8bit.png", train_ids)
    (written,) = write_submission(tmp_path / "masks", dataset="cityscapes", output=tmp_path / "out", train_ids=True)
    assert written.name == "berlin_000000_000019_labelIds.png"
    with Image.open(written) as picture:
        assert picture.mode == "L"
        expected = [[trainId2label[value].id for value in row] for row in train_ids.tolist()]
        assert np.asarray(picture).tolist() == expected


def test_voc_submission_has_the_palette_of_the_data_set(tmp_path: Path) -> None:
    mask = np.arange(21).reshape(3, 7)
    save(tmp_path / "masks" / "2008_000006.png", mask)
    (written,) = write_submission(tmp_path / "masks", dataset="voc2012", output=tmp_path / "out")
    with Image.open(written) as picture:
        assert (picture.mode, picture.size, written.name) == ("P", (7, 3), "2008_000006.png")
        assert np.array_equal(np.asarray(picture), mask)
        colours = load_card("voc2012").labels.colours
        assert [tuple(colour) for colour in np.asarray(picture.convert("RGB")).reshape(-1, 3)] == list(colours.values())


def test_a_submission_never_holds_what_is_no_class(tmp_path: Path) -> None:
    save(tmp_path / "masks" / "2008_000006.png", np.full((3, 7), 255))
    with pytest.raises(DataError, match=r"2008_000006\.png.*255 \(21 pixels\)"):
        write_submission(tmp_path / "masks", dataset="voc2012", output=tmp_path / "out")
    save(tmp_path / "masks" / "2008_000007.png", np.zeros((3, 7)))
    with pytest.raises(PartialFailure, match="1 masks are missing"):
        write_submission(tmp_path / "masks", dataset="voc2012", output=tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["2008_000007.png"]
    with pytest.raises(ConfigError, match="no server"):
        write_submission(tmp_path / "masks", dataset="camvid", output=tmp_path / "out")


def test_nnunets_summary_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    for dataset, convention in (("voc2012", ""), ("brats2modal", "voc"), ("cityscapes", "")):
        options = ["--convention", convention] if convention else []
        there = ("--prediction", tmp_path / "none", "--truth", tmp_path / "none")
        done = run(*there, "--dataset", dataset, *options, "--nnunet-summary", tmp_path / "out" / "summary.json")
        assert done.exit_code != 0
        assert "nnU-Net has no figures by this convention" in str(done.exception or done.output)
    assert not (tmp_path / "out").exists()


def test_a_run_is_scored_by_its_convention(monkeypatch: pytest.MonkeyPatch) -> None:
    for convention in ("medical", "voc"):
        facts = DataFacts("set", ("0",), Labels({"background": 0, "x": 1}), convention=convention)
        trained = SimpleNamespace(facts=facts, config=load_config("demo", ["data.card=null"]))
        monkeypatch.setattr(of_run, "read_run", lambda _, trained=trained: trained)
        assert of_run._of_run(Path("run")).convention == convention
