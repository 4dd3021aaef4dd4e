"""The brain config on real slabs of its data set: four channels in one 4D file, overlapping regions."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.config.load import load_config
from medseg.workflows.predict import predict
from medseg.workflows.train import train

SMALLER = [
    "network.widths=[4, 8, 8]",
    "training.patch_size=[32, 32, 16]",
    "training.max_epochs=1",
    "training.iterations_per_epoch=2",
    "training.validation_interval=1",
    "training.workers=0",
    "data.validation=0.5",
    "inference.patch_size=[96, 96, 32]",
    "inference.overlap=0",
    "inference.mirror_axes=[]",
]


@pytest.mark.slow
def test_trains_and_predicts_four_modalities(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "Task01_BrainTumour_slabs"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    run = train(load_config("brain", [f"data.root={root}", *SMALLER]), run=tmp_path / "run")
    assert len((run / "history.csv").read_text().splitlines()) == 2
    image = root / "imagesTr" / "BRATS_119.nii.gz"
    predict(run, input=image, output=tmp_path / "masks")
    (written,) = (tmp_path / "masks").glob("*.nii.gz")
    mask, source = nib.load(written), nib.load(image)
    assert mask.shape == source.shape[:3]
    assert np.allclose(mask.affine, source.affine)
    assert set(np.unique(np.asanyarray(mask.dataobj))) <= {0, 1, 2, 3}
