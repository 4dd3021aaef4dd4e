"""A network that computes no numbers makes no mask: the case fails, and says why."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg.core.errors import DataError, PartialFailure, RunError
from medseg.engine.evaluator import check_finite
from medseg.networks.unet import UNet
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Predictor


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("several", [False, True])
def test_a_single_value_is_enough(value: float, several: bool) -> None:
    logits = torch.zeros(3, 4, 5, 6)
    check_finite([logits, logits] if several else logits, "case")
    bad = logits.clone()
    bad[2, 3, 4, 5] = value
    with pytest.raises(DataError, match="case: the logits of the network are NaN or infinite"):
        check_finite([logits, bad] if several else bad, "case")


def spoil(monkeypatch: pytest.MonkeyPatch, value: float, *, only_first: bool) -> None:
    """Let the network give this value in one voxel: of the first window, or of all."""
    forward, calls = UNet.forward, []

    def spoiled(self: UNet, x: torch.Tensor) -> Any:
        calls.append(1)
        output = forward(self, x)
        if len(calls) == 1 or not only_first:
            output[0, 0, 0, 0, 0] = value
        return output

    monkeypatch.setattr(UNet, "forward", spoiled)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_case_fails_alone_in_prediction(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    run, root = trained
    spoil(monkeypatch, value, only_first=True)
    with pytest.raises(PartialFailure) as caught:
        predict(run, input=root / "imagesTr", output=tmp_path / "masks")
    assert caught.value.exit_code == 1
    [failed] = csv.DictReader((tmp_path / "masks" / "medseg" / "failed.csv").open())
    assert "logits of the network are NaN or infinite" in failed["reason"]
    assert "precision float32" in failed["reason"]
    names = {file.name for file in (root / "imagesTr").iterdir()}
    assert {file.name for file in (tmp_path / "masks").glob("*.nii.gz")} == names - {f"{failed['case']}.nii.gz"}


def test_no_mask_where_all_fail(trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, root = trained
    spoil(monkeypatch, float("nan"), only_first=False)
    with pytest.raises(PartialFailure):
        predict(run, input=root / "imagesTr", output=tmp_path / "masks")
    assert not [*(tmp_path / "masks").glob("*.nii.gz")]
    with pytest.raises(RunError, match="NaN or infinite"):
        evaluate(run, output=tmp_path / "eval", anew=True)
    with pytest.raises(DataError, match="NaN or infinite"):
        Predictor.from_run(run)(next((root / "imagesTr").iterdir()))
