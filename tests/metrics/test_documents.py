"""Files of scores that another version wrote."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import DataError
from medseg.core.parts import Part
from medseg.metrics import METRICS
from medseg.metrics.lesions import LesionScore, read_lesions, write_lesions
from medseg.metrics.table import MetricsTable


def score(case: str, target: str, state: str, ratio: float | None, hd95_mm: float | None, **more: Any) -> dict:
    """A row as it was before metrics had a table."""
    return {
        "case": case,
        "target": target,
        "state": state,
        "dice": ratio,
        "iou": ratio,
        "precision": ratio,
        "recall": ratio,
        "hd95_mm": hd95_mm,
        "surface_dice": ratio,
        "tolerance_mm": 1.0,
        "volume_ml": 0.05,
        "truth_volume_ml": 0.06,
        "true_positives": 20,
        "false_positives": 1,
        "false_negatives": 2,
    } | more


OLD = {  # nothing of the summary is read: it follows from the rows
    "schema": "medseg-metrics/1",
    "convention": "medical",
    "convention_text": "metrics per case, ...",
    "tolerance_mm": 1.0,
    "postprocessing": {"keep_largest_component": ["organ"]},
    "cases": 2,
    "mean_dice": 0.625,
    "scores": [
        score("c0", "organ", "scored", 0.75, 1.5),
        score("c0", "lesion", "missed", 0.0, 14.0, true_positives=0, false_positives=0),
        score("c1", "organ", "scored", 0.5, 2.0),
        score("c1", "lesion", "absent", None, None, true_positives=0, false_positives=0, false_negatives=0),
    ],
}
# What commit 150974b prints of it.
OLD_TEXT = """\
target        n  missed  FP only  absent    Dice      95 % CI     IoU  precision  recall  HD95 mm  surface Dice 1 mm
organ         2       0        0       0  0.6250  0.500-0.750  0.6250     0.6250  0.6250     1.75             0.6250
lesion        1       1        0       1  0.0000            -  0.0000     0.0000  0.0000    14.00             0.0000
mean (macro)                              0.3125  0.312-0.500  0.3125     0.3125  0.3125     7.88             0.3125
micro (pooled voxels): Dice 0.9091, IoU 0.8333, precision 0.9524, recall 0.8696
2 cases; convention: medical (metrics per case, then the mean over the cases in which a target is in the truth or in
the prediction; missed and invented targets count with ratios of 0 and the image's diagonal as HD95; the mean over
targets weighs every target alike (macro); micro pools the voxels of all cases and targets)
masks cleaned: largest component of organ"""


@pytest.fixture(autouse=True)
def the_six(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics that there were then: the table may have grown."""
    names = ("dice", "iou", "precision", "recall", "hd95_mm", "surface_dice")
    monkeypatch.setattr(METRICS, "own", {name: METRICS.own[name] for name in names})


def put(folder: Path, document: Any, name: str = "metrics.json") -> Path:
    (folder / name).write_text(json.dumps(document))
    return folder


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(OLD) | changes


def test_a_table_without_names_of_its_metrics_is_read(tmp_path: Path) -> None:
    table = MetricsTable.read(put(tmp_path, OLD))
    assert table.text() == OLD_TEXT
    assert table.summary()["mean_hd95_mm"] == pytest.approx(7.875)
    table.write(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["scores"] == OLD["scores"]
    assert [list(row) for row in again["scores"]] == [list(row) for row in OLD["scores"]]


def test_a_table_from_before_a_metric_came_says_that_no_case_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS.own, "again", Part("again", "medseg.metrics.overlap:Dice"))
    table = MetricsTable.read(put(tmp_path, OLD))
    assert "Dice is missing in some cases, and counted in 0 of 2 (organ), 0 of 1 (lesion)" in table.text()
    assert (table.summary()["mean_again"], table.summary()["mean_dice"]) == (None, pytest.approx(0.3125))


def test_unknown_columns_are_kept_and_not_taken_for_metrics(tmp_path: Path) -> None:
    document = changed()
    for number, row in enumerate(document["scores"]):
        row |= {"slices": number, "reader": "Dr. X"}
    table = MetricsTable.read(put(tmp_path, document))
    assert table.text() == OLD_TEXT
    table.write(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["scores"] == document["scores"]
    with (tmp_path / "again" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["slices"], row["reader"], row["convention"]) for row in rows][2] == ("2", "Dr. X", "medical")
    assert MetricsTable.read(tmp_path / "again").scores == table.scores


def test_a_metric_of_a_later_version_is_shown_as_the_file_says(tmp_path: Path) -> None:
    told = {"title": "HD99", "unit": "mm", "digits": 1, "higher_is_better": False, "shown_as": "a later key"}
    document = changed(metrics={"dice": {"title": "Dice"}, "hd99_mm": told})
    for row, value in zip(document["scores"], (2.0, 3.0, None, None), strict=True):
        row["hd99_mm"] = value
    table = MetricsTable.read(put(tmp_path, document))
    head, organ, *_ = table.text().splitlines()
    assert head.endswith("surface Dice 1 mm  HD99 mm")
    assert organ.split()[-1] == "2.0"
    assert "HD99 is missing in some cases, and counted in 1 of 2 (organ)" in table.text()
    assert table.summary()["targets"]["organ"]["n_of"] == {"hd99_mm": 1}
    table.write(tmp_path / "again")
    assert MetricsTable.read(tmp_path / "again").text() == table.text()


def test_a_metric_that_a_file_lacks_counts_in_no_mean(tmp_path: Path) -> None:
    document = changed()
    for row in document["scores"]:
        del row["surface_dice"], row["hd95_mm"]
    older = MetricsTable.read(put(tmp_path, document))
    assert older.ranking() == ["c0", "c1"], "by Dice alone"
    assert older.summary()["mean_surface_dice"] is None
    assert older.summary()["mean_dice"] == pytest.approx(0.3125)
    later = changed()
    later["scores"] = [score("c2", "organ", "scored", 0.25, 1.0), score("c2", "lesion", "scored", 0.5, 1.0)]
    joined = MetricsTable.joined([older, MetricsTable.read(put(tmp_path, later))])
    organ = joined.summary()["targets"]["organ"]
    assert (organ["n"], organ["dice"], organ["n_of"]) == (3, pytest.approx(0.5), {"hd95_mm": 1, "surface_dice": 1})
    assert organ["surface_dice"] == 0.25
    assert "surface Dice is missing in some cases, and counted in 1 of 3 (organ), 1 of 2 (lesion)" in joined.text()
    assert joined.postprocessing == OLD["postprocessing"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed(schema="medseg-metrics/2"), "written by a newer medseg"),
        (changed(schema="medseg-lesions/1"), "'medseg-lesions/1', expected 'medseg-metrics/1'"),
        (changed(schema="medseg-metrics"), "expected 'medseg-metrics/1'"),
        (changed(schema=None), "expected 'medseg-metrics/1'"),
        ([1], "not a metrics table"),
        ({"dice": 1}, "has no 'schema'"),
        (changed(scores=[{"case": "a", "target": "x"}]), "a score has no state, no tolerance_mm"),
        (changed(scores=[score("a", "x", "found", 0.5, 1.0)]), "unknown state 'found'"),
        (changed(scores=[score("a", "x", "scored", 0.5, 1.0, dice="high")]), "dice is 'high', expected a number"),
        (changed(scores=["a"]), "not a metrics table"),
        (changed(metrics={"hd99_mm": {"digits": "two"}}), "metrics.hd99_mm.digits is 'two'"),
        (changed(metrics=["dice"]), "not a metrics table"),
    ],
)
def test_foreign_and_later_files_are_refused(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(DataError, match=r"metrics\.json") as caught:
        MetricsTable.read(put(tmp_path, document))
    assert message in str(caught.value)


def test_lesions_of_other_versions(tmp_path: Path) -> None:
    row = {"case": "c0", "target": "lesion", "true": 1, "found": 0, "invented": 0, "dice": 0.0}
    old = {"schema": "medseg-lesions/1", "targets": {}, "scores": [row]}
    assert read_lesions(put(tmp_path, old, "lesions.json")) == [LesionScore("c0", "lesion", 1, 0, 0, 0.0)]
    later = [row | {"largest_ml": 0.4}]
    scores = read_lesions(put(tmp_path, old | {"scores": later}, "lesions.json"))
    write_lesions(scores, tmp_path)
    assert json.loads((tmp_path / "lesions.json").read_text())["scores"] == later
    assert (tmp_path / "lesions.csv").read_text().splitlines() == [
        "case,target,true,found,invented,dice,largest_ml",
        "c0,lesion,1,0,0,0.0,0.4",
    ]
    for document in (old | {"schema": "medseg-lesions/2"}, {"scores": []}, old | {"scores": [{"case": "c0"}]}):
        with pytest.raises(DataError, match=r"lesions\.json"):
            read_lesions(put(tmp_path, document, "lesions.json"))
