"""The same commands on a GPU: bfloat16, cuDNN, pinned batches; masks as on the CPU but for rounding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

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
def test_the_benchmark_of_a_gpu_runs_where_there_is_none() -> None:
    """So that it works on the day on which there is one."""
    script = Path(__file__).parents[1] / "bench" / "gpu.py"
    done = subprocess.run([sys.executable, str(script), "--tiny"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| 16^3, 1 channel | 2 |" in done.stdout
