"""nnU-Net's own evaluation reads what medseg predicts, and `score --nnunet-summary` has the same figures.

nnU-Net is in an environment of its own: MEDSEG_PEER_PYTHON names its Python, or its programs are on the PATH.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli import app
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.tiny import tiny_config

PROGRAM = "nnUNetv2_evaluate_simple"
BY_ITSELF = """
import sys, json
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
if __name__ == "__main__":
    truth, masks, output, keys, ignored = sys.argv[1:]
    keys = [tuple(key) if isinstance(key, list) else key for key in json.loads(keys)]
    compute_metrics_on_folder(truth, masks, output, SimpleITKIO(), ".nii.gz", keys, json.loads(ignored), 1)
"""


@pytest.fixture
def programs() -> Path:
    """The folder of nnU-Net's programs, beside its Python."""
    named = os.environ.get("MEDSEG_PEER_PYTHON")
    found = shutil.which(PROGRAM, path=str(Path(named).parent)) if named else shutil.which(PROGRAM)
    if found is None:
        pytest.skip(f"no {PROGRAM} beside MEDSEG_PEER_PYTHON or on the PATH: nnU-Net is not installed")
    return Path(found).parent


def ask(*command: str | Path, cwd: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def ours(masks: Path, truth: Path, dataset: Path, output: Path) -> dict[str, Any]:
    options = ("--prediction", masks, "--truth", truth, "--dataset", dataset, "--nnunet-summary", output)
    result = CliRunner().invoke(app, ["score", *map(str, options), "--workers", "1"])
    assert result.exit_code == 0, result.output
    return json.loads(output.read_text())


def figures(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every figure and text of a summary with its place; cases by the names of their files."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from figures(value, f"{path}/{key}")
    elif isinstance(content, list):
        for case in content:
            yield from figures(case, f"{path}/{Path(case['prediction_file']).name}")
    else:
        yield path, content


def assert_alike(own: dict[str, Any], peers: dict[str, Any]) -> None:
    first, second = dict(figures(own)), dict(figures(peers))
    assert first.keys() == second.keys()
    assert len(first) > 20
    for place, value in second.items():
        if isinstance(value, str):
            assert Path(first[place]).resolve() == Path(value).resolve()
        elif math.isnan(value):
            assert math.isnan(first[place]), place
        else:
            assert first[place] == pytest.approx(value, rel=1e-6, abs=1e-6), place


@pytest.mark.slow
def test_nnunet_evaluates_what_medseg_predicts(programs: Path, test_data: Path, tmp_path: Path) -> None:
    source, root, out = test_data / "Task04_Hippocampus", tmp_path / "data", tmp_path / "masks"
    names = [file.name for file in sorted((source / "labelsTr").glob("*.nii.gz"))[:4]]
    description = json.loads((source / "dataset.json").read_text())
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(source / folder / name, root / folder)
    listed = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    (root / "dataset.json").write_text(json.dumps(description | {"training": listed, "test": [], "numTraining": 4}))
    train(tiny_config(root, training__max_epochs=1), run=tmp_path / "run")
    predict(tmp_path / "run", input=root / "imagesTr", output=out)
    own = ours(out, root / "labelsTr", tmp_path / "run", tmp_path / "summary.json")
    ask(programs / PROGRAM, root / "labelsTr", out, "-l", "1", "2", "-np", "1", cwd=tmp_path)
    assert_alike(own, json.loads((out / "summary.json").read_text()))
    assert predict(tmp_path / "run", input=root / "imagesTr", output=out), "its summary is in nobody's way"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "keys", "ignored"),
    [
        ({"background": 0, "a": 1, "b": 2, "c": 3}, [1, 2, 3], None),
        ({"background": 0, "a": 1, "b": 2, "c": 3, "ignore": 4}, [1, 2, 3], 4),
        ({"background": 0, "all": [1, 2, 3], "core": [2, 3], "c": 3}, [[1, 2, 3], [2, 3], 3], None),
    ],
    ids=["classes", "ignored", "regions"],
)
def test_figures_are_those_of_nnunet(
    labels: dict[str, Any], keys: list[Any], ignored: int | None, programs: Path, tmp_path: Path
) -> None:
    """Also of a class that is nowhere, and of one that one of the two lacks."""
    rng = np.random.default_rng(4)
    regions = {"regions_class_order": [1, 2, 3]} if "all" in labels else {}
    truth, masks = tmp_path / "labelsTr", tmp_path / "masks"
    for folder in (truth, masks):
        folder.mkdir()
        for number, most in enumerate((3, 2, 3)):
            mask = rng.integers(0, most, (5, 6, 7)).astype(np.uint8)
            if folder == truth and ignored is not None:
                mask[rng.random(mask.shape) < 0.3] = ignored
            nib.save(nib.Nifti1Image(mask, np.eye(4)), folder / f"case_{number}.nii.gz")
    description = {"labels": labels, "channel_names": {"0": "T1"}, "numTraining": 3, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(description | regions))
    own = ours(masks, truth, tmp_path / "dataset.json", tmp_path / "ours.json")
    (tmp_path / "ask.py").write_text(BY_ITSELF)
    said = (json.dumps(keys), json.dumps(ignored))
    ask(programs / "python", tmp_path / "ask.py", truth, masks, tmp_path / "peer.json", *said, cwd=tmp_path)
    assert_alike(own, json.loads((tmp_path / "peer.json").read_text()))
