"""Two stages: the region is found on a coarse grid and delineated at full resolution; a run, a bundle, an ensemble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.workflows.predict import predict
from medseg.workflows.predictor import Predictor
from medseg.workflows.train import train
from tests.conftest import MadeOnce
from tests.tiny import tiny_config

SHAPE, BALL = (48, 44, 40), (34, 12, 28)  # the target lies outside the middle
TWO: dict[str, Any] = {
    "finder__spacing_mm": [4.0, 4.0, 4.0],
    "finder__patch_size": [8, 8, 8],
    "finder__margin_mm": 4.0,
    "finder__share": 0.5,
    "training__max_epochs": 4,
    "training__iterations_per_epoch": 60,
    "training__foreground_probability": 0.67,
    "network__widths": [8, 16],
    "network__norm": "batch",  # instance norm takes patches without a target for others
    "training__optimizer": {"learning_rate": 1e-2},
    "augmentation__enabled": False,
}


def write_balls(root: Path, cases: int = 6, unlabelled: int = 2) -> Path:
    """A bright ball in two shells, off the middle of a volume of many patches; the last image without any."""
    random = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])  # not the orientation that preprocessing asks for
    training, test = [], []
    for number in range(cases + unlabelled):
        centre = np.array(BALL) + random.integers(-2, 3, 3)
        away = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(SHAPE), centre, strict=True)))
        label = (away < 6).astype(np.uint8) + (away < 3)
        if number == cases + unlabelled - 1:
            label[:] = 0
        image = (random.normal(0, 5, SHAPE) + 100 * (label > 0) + 50 * (label > 1)).astype(np.float32)
        file = f"ball_{number:02d}.nii.gz"
        if number < cases:
            nib.save(nib.Nifti1Image(image, affine), root / "imagesTr" / file)
            nib.save(nib.Nifti1Image(label, affine), root / "labelsTr" / file)
            training.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
        else:
            nib.save(nib.Nifti1Image(image, affine), root / "imagesTs" / file)
            test.append(f"./imagesTs/{file}")
    description = {
        "name": "balls",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "shell", "2": "core"},
        "numTraining": cases,
        "numTest": unlabelled,
        "training": training,
        "test": test,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


@pytest.fixture(scope="module")
def two(made_once: MadeOnce) -> tuple[Path, Path]:
    """A run in two stages, and its data; read only."""

    def make(folder: Path) -> None:
        train(tiny_config(write_balls(folder / "data"), **TWO), run=folder / "run")

    folder = made_once("finder", make)
    return folder / "run", folder / "data"


def sidecar(folder: Path, case: str) -> dict[str, Any]:
    return json.loads((folder / "medseg" / f"{case}.json").read_text())


def test_a_target_outside_the_middle_is_found_and_delineated(two: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = two
    masks = predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    mask = nib.load(masks[0])
    image = nib.load(root / "imagesTs" / masks[0].name)
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, image.affine)
    truth, found = np.asarray(image.dataobj) > 50, np.asarray(mask.dataobj) > 0
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.8
    region = sidecar(tmp_path / "masks", "ball_06")["region"]
    assert region["found"]
    assert region["share"] < 0.4
    alone = Predictor.from_run(run)(root / "imagesTs" / masks[0].name)
    assert np.array_equal(alone.array, np.asarray(mask.dataobj))
