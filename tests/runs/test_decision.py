from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medseg.core.errors import RunError
from medseg.runs.decision import SCHEMA, read_decided
from medseg.workflows.predict import predict


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "holds no decision of medseg postprocess"),
        ("{}", "schema: holds no decision"),
        (json.dumps({"schema": SCHEMA, "steps": {"fill_holes": "organ"}}), "steps.fill_holes: holds no decision"),
        (json.dumps({"schema": SCHEMA, "steps": {"fill_holes": ["orgam"]}}), "no target 'orgam'"),
        (json.dumps({"schema": SCHEMA, "steps": {"erode": ["organ"]}}), "steps.erode: holds no decision"),
    ],
)
def test_a_broken_decision_is_refused(content: str, message: str, crossed: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "fold_0"
    shutil.copytree(crossed[0] / "fold_0", folder)
    (folder / "postprocessing.json").write_text(content)
    with pytest.raises(RunError, match=message) as error:
        predict(folder, input=crossed[1], output=tmp_path / "masks")
    assert "run medseg postprocess again" in str(error.value)
    assert read_decided(folder, postprocess=False).config.inference.cleaning == {}


OLDER = """{
 "schema": "medseg-postprocessing/1",
 "steps": {
  "keep_largest_component": ["organ"],
  "minimum_volume_ml": {"lesion": 0.005},
  "minimum_total_ml": {},
  "fill_holes": []
 },
 "crf": null,
 "evidence": {"cases": 8, "tried": [{"step": "minimum_volume_ml", "target": "lesion", "ml": 0.005, "kept": true}]}
}
"""


def test_a_decision_of_an_older_version_is_read(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "fold_0"
    shutil.copytree(crossed[0] / "fold_0", folder)
    (folder / "postprocessing.json").write_text(OLDER)
    cleaning = read_decided(folder).config.inference.cleaning
    assert cleaning == {"keep_largest_component": ["organ"], "minimum_volume_ml": {"lesion": 0.005}}
