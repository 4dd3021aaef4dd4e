"""The same commands on a GPU: bfloat16, cuDNN, pinned batches; masks as on the CPU but for rounding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.tiny import tiny_config


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"training__compile": True}, {"training__deterministic": True}])
def test_training_and_prediction_on_a_gpu(tiny_msd, tmp_path: Path, changes: dict) -> None:
    root = tiny_msd(cases=4)
    run = train(tiny_config(root, training__workers=2, **changes), run=tmp_path / "run")
    rows = (run / "history.csv").read_text().splitlines()
    assert len(rows) == 3
    [on_gpu] = predict(run, input=root / "imagesTs", output=tmp_path / "gpu")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("device: auto", "device: cpu"))
    [on_cpu] = predict(run, input=root / "imagesTs", output=tmp_path / "cpu")
    one, other = (np.asarray(nib.load(path).dataobj) for path in (on_gpu, on_cpu))
    assert (one == other).mean() > 0.95


@pytest.mark.slow
def test_the_check_of_a_gpu_runs_where_there_is_none() -> None:
    """So that it works on the day on which there is one."""
    script = Path(__file__).parents[1] / "bench" / "gpu_check.py"
    command = [sys.executable, str(script), "--tiny", "--parts", "tests", "speed"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = "passed" if torch.cuda.is_available() else "skipped"
    for text in (outcome, "| 16^3, 1 channel | 2 |", "| compiled |", "| CUDA graphs |", " million | "):
        assert text in done.stdout
    parts = [[cell.strip() for cell in line.split("|")[1:3]] for line in done.stdout.splitlines()[-2:]]
    assert parts == [["tests", "good"], ["speed", "good"]]
