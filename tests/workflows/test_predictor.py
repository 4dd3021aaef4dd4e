"""A run that is loaded once: its masks are those of `medseg predict`, whatever the preprocessing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import RunError
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Predictor
from tests.workflows.test_ensemble import changed


@pytest.mark.parametrize("kind", ["resampled", "turned and cropped", "two grids"])
def test_masks_are_those_of_predict(kind: str, crossed: tuple[Path, Path], tmp_path: Path) -> None:
    folds, root = crossed
    fine = changed(folds / "fold_0", tmp_path / "fine", preprocessing={"spacing_mm": [1.0, 1.0, 1.0]})
    turned = {"orientation": "LPS", "crop_to_foreground": True}
    runs = {
        "resampled": [fine],
        "turned and cropped": [changed(folds / "fold_0", tmp_path / "turned", preprocessing=turned)],
        "two grids": [fine, folds / "fold_1"],
    }[kind]
    scan = next((root / "imagesTs").iterdir())
    (saved,) = predict(runs, input=scan, output=tmp_path / "masks")
    assert np.array_equal(Predictor.from_run(runs)(scan).array, np.asarray(nib.load(saved).dataobj))


def test_no_run_is_no_predictor() -> None:
    with pytest.raises(RunError, match="no run is given"):
        Predictor.from_run([])
