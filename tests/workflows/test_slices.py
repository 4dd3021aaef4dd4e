"""Volumes through a network of two dimensions, slice by slice: to masks, as a bundle, in an ensemble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow, verify_net_in_out

from medseg.bundle.write import write_bundle
from medseg.core.errors import ConfigError
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Predictor
from medseg.workflows.train import train
from tests.conftest import MadeOnce, write_msd
from tests.tiny import tiny_config

FLAT: dict[str, Any] = {
    "network__spatial_dims": 2,
    "data__context": 3,
    "training__patch_size": [16, 16],
    "inference__overlap": 0.25,
    "augmentation__flip_axes": [0],
}


@pytest.fixture(scope="module")
def pair(made_once: MadeOnce) -> tuple[Path, Path, Path]:
    """A run slice by slice, one in three dimensions with the same cases held out, and their data; read only."""

    def make(folder: Path) -> None:
        root = write_msd(folder / "data", cases=6, unlabelled=1, channels=("T1", "T2"))
        train(tiny_config(root, **FLAT), run=folder / "flat")
        train(tiny_config(root), run=folder / "deep")

    folder = made_once("slices", make)
    return folder / "flat", folder / "deep", folder / "data"


def test_masks_lie_on_the_grid_of_the_file(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    flat, _, root = pair
    (mask,) = predict(flat, input=root / "imagesTs", output=tmp_path / "masks", probabilities=True)
    image = nib.load(root / "imagesTs" / mask.name)
    assert nib.load(mask).shape == image.shape[:3]
    assert np.allclose(nib.load(mask).affine, image.affine)
    alone = Predictor.from_run(flat)(root / "imagesTs" / mask.name)
    assert np.array_equal(alone.array, np.asarray(nib.load(mask).dataobj))
    assert json.loads((flat / "eval" / "metrics.json").read_text())["cases"] == 2


def test_two_and_three_dimensions_make_one_ensemble(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    flat, deep, root = pair
    (mask,) = predict([flat, deep], input=root / "imagesTs", output=tmp_path / "both", uncertainty=True)
    assert nib.load(mask).shape == nib.load(root / "imagesTs" / mask.name).shape[:3]
    evaluate([flat, deep], output=tmp_path / "eval")
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text())["cases"] == 2


def test_a_bundle_says_what_its_channels_are(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    write_bundle(tiny_config(write_msd(tmp_path / "data", channels=("T1", "T2")), **FLAT), output=bundle)
    channels = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]["inputs"]["image"]
    assert channels["channel_def"]["3"] == "T2, slice -1"
    assert channels["num_channels"] == 6
    for name, kind in (("train", "train"), ("inference", "infer")):
        workflow = ConfigWorkflow(str(bundle / "configs" / f"{name}.yaml"), workflow_type=kind)
        workflow.initialize()
        assert workflow.check_properties() == []
    files = {"meta_file": bundle / "configs" / "metadata.json", "config_file": bundle / "configs" / "inference.yaml"}
    verify_net_in_out(net_id="network_def", device="cpu", **{key: str(file) for key, file in files.items()})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data__context": 2}, "must be odd"),
        ({"network__spatial_dims": 3, "training__patch_size": [16, 16, 16]}, "of three sees the volume"),
        ({"augmentation__crop_scale": [0.5, 2.0], "augmentation__flip_axes": []}, "crops at a random scale"),
        ({"preprocessing__longest_side": 64}, "is of pictures"),
        ({"preprocessing__spacing_mm": [1.0, 1.0]}, "images have 3 dimensions"),
        ({"preprocessing__orientation": "RA"}, "three letters"),
    ],
)
def test_what_does_not_go_with_slices_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        tiny_config(tmp_path, **FLAT | changes)


def test_colours_are_of_pictures(tmp_path: Path) -> None:
    root = write_msd(tmp_path / "data", channels=("r", "g", "b"))
    config = tiny_config(root, **FLAT, preprocessing__normalization="imagenet", augmentation__enabled=False)
    with pytest.raises(ConfigError, match=r"preprocessing\.normalization"):
        train(config, run=tmp_path / "run")
