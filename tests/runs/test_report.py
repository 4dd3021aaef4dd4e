"""The end of an evaluation: its files, what is said, what failed; and that all of it follows the table of metrics."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import ClassVar

import nibabel
import numpy as np
import pytest

from medseg.bundle.facts import DataFacts
from medseg.bundle.trained import Trained
from medseg.core.errors import PartialFailure, Problem, RunError
from medseg.core.labels import Labels
from medseg.core.parts import Part
from medseg.data.cases.case import Case
from medseg.engine.cohort import ScoreMaskd
from medseg.metrics import METRICS
from medseg.metrics.lesions import LesionScore, read_lesions
from medseg.metrics.metric import Column, Comparison, Metric
from medseg.metrics.table import MetricsTable
from medseg.runs.foreign import REPORT
from medseg.runs.report import Results, Review
from tests.tiny import tiny_config

LABELS = Labels(classes={"background": 0, "organ": 1, "lesion": 2})


class Grams(Metric):
    """Voxels that are wrong; made up."""

    column: ClassVar[Column] = Column(
        "wrong <b>", unit="g", digits=1, higher_is_better=False, charge="the image's diagonal", meaning="made up & all"
    )

    def measure(self, found: Comparison) -> float:
        return 1234.0 + found.counts.false_negatives


def review(folder: Path) -> Review:
    """Of a run with three cases and their masks."""
    (folder / "run" / "eval" / "masks").mkdir(parents=True)
    (folder / "run" / "environment.json").write_text('{"torch": "2"}')
    (folder / "run" / "history.csv").write_text("epoch,minutes,train/loss\n1,0.1,0.5\n2,0.2,0.4\n")
    rng = np.random.default_rng(0)
    cases = {}
    for number in range(3):
        truth = np.zeros((9, 8, 7), np.uint8)
        truth[2:7, 2:6, 1:6], truth[3, 3, 2:4] = 1, 2
        mask = np.where(rng.random(truth.shape) < 0.1 * number, 0, truth).astype(np.uint8)
        files = {name: folder / f"{name}_{number}.nii.gz" for name in ("image", "label")}
        files["mask"] = folder / "run" / "eval" / "masks" / f"case_{number}.nii.gz"
        for name, array in (("image", truth * 50 + rng.integers(0, 9, truth.shape)), ("label", truth), ("mask", mask)):
            nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.eye(4)), files[name])
        cases[f"case_{number}"] = Case(f"case_{number}", (str(files["image"]),), str(files["label"]))
    facts = DataFacts("tiny", ("MR",), LABELS)
    run = folder / "run"
    return Review(Trained(run, tiny_config(folder), facts), run / "eval", cases, run / REPORT, run / "tensorboard")


def scored(one: Review) -> MetricsTable:
    step, scores = ScoreMaskd(LABELS), []
    for name, case in one.cases.items():
        mask = np.asarray(nibabel.load(one.output / "masks" / f"{name}.nii.gz").dataobj)[None]
        scores += step({"case": name, "label_path": case.label, "pred": mask})["scores"]
    return MetricsTable(scores)


def scalars(run: Path) -> dict[str, float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(run / "tensorboard"))
    log.Reload()
    assert log.Tags()["images"] == ["cases/worst", "cases/median", "cases/best"]
    return {tag: log.Scalars(tag)[0].value for tag in log.Tags()["scalars"]}


def test_a_metric_in_the_table_is_in_every_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METRICS.own, "made_up", Part("made_up", f"{__name__}:Grams"))
    one = review(tmp_path)
    table = scored(one)
    summary = one.conclude(Results(table), joined=True)
    organ = summary["targets"]["organ"]
    assert organ["made_up"] == np.mean([score.made_up for score in table.scores if score.target == "organ"]) > 1234
    assert organ["ci95"]["made_up"][0] < organ["made_up"] < organ["ci95"]["made_up"][1]

    printed = capsys.readouterr().out
    assert "wrong <b> g" in printed.splitlines()[0]
    assert f"{organ['made_up']:.1f}" in printed
    assert "the image's diagonal as HD95 and wrong <b>" in " ".join(printed.split())

    document = json.loads((one.output / "metrics.json").read_text())
    assert document["mean_made_up"] == summary["mean_made_up"]
    assert [row["made_up"] for row in document["scores"]] == [score.metrics["made_up"] for score in table.scores]
    with (one.output / "metrics.csv").open(newline="") as file:
        assert [float(row["made_up"]) for row in csv.DictReader(file)] == [score.made_up for score in table.scores]

    page = one.report.read_text()
    assert page.count("Wrong<br>&lt;b&gt;<br>g</th>") == 2, "a column by structure, and one of every case"
    assert "Mean wrong &lt;b&gt;" in page
    assert f"{organ['made_up']:.1f}" in page
    assert all(f">{score.made_up:.1f}<" in page for score in table.scores)
    assert "made up &amp; all" in page
    assert "(wrong &lt;b&gt;: the image&#39;s diagonal)" in page

    found = scalars(one.run.folder)
    assert found["final/made_up/organ"] == pytest.approx(organ["made_up"])
    assert set(found) == {f"final/{name}/{target}" for name in METRICS.own for target in ("organ", "lesion")}


def test_fewer_cases_are_said_in_the_report(tmp_path: Path) -> None:
    one = review(tmp_path)
    table = scored(one)
    table.scores[0].metrics.pop("hd95_mm")
    one.conclude(Results(table), joined=True)
    assert "HD95 is missing in some cases, and counted in 2 of 3 (organ)" in one.report.read_text()


def test_joined_results_are_written_and_those_of_one_cohort_are_there_already(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = review(tmp_path)
    table = scored(one)
    lesions = [LesionScore("case_0", "lesion", 1, 1, 0, 0.9)]
    one.conclude(Results(table, lesions))
    assert [path.name for path in one.output.iterdir()] == ["masks"]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "lesions of lesion: 1 of 1 found (sensitivity 1.000), 0.00 false positives a case, lesion-wise Dice 0.9000",
        f"report: {one.report}",
    ]
    halves = [MetricsTable(table.scores[:2]), MetricsTable(table.scores[2:])]
    joined = Results.joined([Results(halves[0], lesions), Results(halves[1]), Results(None)])
    one.conclude(joined, joined=True, said=["fold_0: one case"], title="out-of-fold report")
    assert MetricsTable.read(one.output).scores == table.scores
    assert read_lesions(one.output) == lesions
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("fold_0: one case", f"out-of-fold report: {one.report}")


def test_failed_cases_of_all_parts_are_listed_after_everything_else_is_written(tmp_path: Path) -> None:
    one = review(tmp_path)
    table = scored(one)
    halves = [MetricsTable(table.scores[:2]), MetricsTable(table.scores[2:])]
    failures = [[Problem("bad", "no gzip")], [Problem("worse", "is empty")]]
    joined = Results.joined([Results(part, (), what) for part, what in zip(halves, failures, strict=True)])
    with pytest.raises(PartialFailure, match=r"(?s)bad: no gzip.*worse.*failed\.csv: 2 cases failed") as failure:
        one.conclude(joined, joined=True)
    assert failure.value.result == table.summary()
    assert (one.output / "failed.csv").read_text().splitlines() == ["case,reason", "bad,no gzip", "worse,is empty"]
    assert one.report.is_file()
    one.conclude(Results(table), joined=True)
    assert not (one.output / "failed.csv").exists()


def test_nothing_scored_is_an_error(tmp_path: Path) -> None:
    one = review(tmp_path)
    with pytest.raises(RunError, match="no case to score"):
        one.conclude(Results(None))
    with pytest.raises(RunError, match="case_1: is empty"):
        one.conclude(Results.joined([Results(None, (), [Problem("case_1", "is empty")])]), joined=True)
    assert not one.report.exists()
