"""The JSON files in the folder of a run, after somebody has put something else into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medseg.core.errors import MedsegError
from medseg.metrics.lesions import LesionScore, read_lesions, write_lesions
from medseg.metrics.score import CaseScore
from medseg.metrics.table import MetricsTable
from medseg.runs.decision import Decision, read_decision
from medseg.runs.folder import ENVIRONMENT, read_environment
from medseg.runs.spent import Spent, read_spent
from tests.bundle.test_data_file import FACTS, anything, places

SCORE = CaseScore("c", "a", "scored", {"dice": 0.5}, 1.0, 2.0, 3.0, 4, 5, 6)
DECIDED = {"schema": "medseg-postprocessing/1", "steps": {"keep_largest_component": ["b"]}, "crf": None, "evidence": {}}


def write_metrics(folder: Path) -> None:
    MetricsTable([SCORE]).write(folder)


def write_plugins(folder: Path) -> None:
    content = {"plugins": [{"name": "net", "distribution": "mine", "version": "1"}]}
    (folder / ENVIRONMENT).write_text(json.dumps(content))


FILES = {
    "metrics.json": (write_metrics, MetricsTable.read),
    "lesions.json": (lambda folder: write_lesions([LesionScore("c", "a", 1, 1, 0, 0.5)], folder), read_lesions),
    "postprocessing.json": (
        lambda folder: Decision.model_validate(DECIDED).write(folder),
        lambda folder: read_decision(folder, FACTS),
    ),
    "environment.json": (write_plugins, read_environment),
    "time.json": (Spent(1.0, 2.0, 3.0).write, read_spent),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stored")


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
@example(data=None)
def test_any_value_in_any_place_is_read_or_refused(name: str, data: Any, folder: Path) -> None:
    write, read = FILES[name]
    write(folder)
    assert read(folder) is not None
    if data is None:
        return
    content = json.loads((folder / name).read_text())
    path = data.draw(st.sampled_from([path for path in places(content) if path]))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(anything)
    (folder / name).write_text(json.dumps(content))
    try:
        read(folder)
    except MedsegError as error:
        assert all(problem.remedy for problem in error.problems), error  # noqa: PT017  # it may be read, too


@pytest.mark.parametrize("key", ["true_positives", "volume_ml", "case", "tolerance_mm"])
@pytest.mark.parametrize("value", [True, [1], {"a": 1}, {"_target_": "os.mkdir"}])
def test_text_is_no_number_of_a_table(key: str, value: Any, tmp_path: Path) -> None:
    write_metrics(tmp_path)
    content = json.loads((tmp_path / "metrics.json").read_text())
    content["scores"][0][key] = value
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(MedsegError, match=f"{key} is"):
        MetricsTable.read(tmp_path)
