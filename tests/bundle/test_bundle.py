"""A compiled bundle is what MONAI says a bundle is, and runs through `python -m monai.bundle`."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from monai.bundle import ConfigWorkflow, verify_net_in_out

from medseg.bundle.write import write_bundle
from tests.tiny import finish, medseg, same_weights, tiny_config, train_arguments

# What docs/source/mb_specification.rst of MONAI calls mandatory; the schema of 2024-07-25 renamed one of them.
MANDATORY = ["version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"]
MANDATORY += ["task", "description", "authors", "copyright", "network_data_format"]
TENSOR = ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def"]


@pytest.fixture
def bundle(tiny_msd, tmp_path: Path) -> Path:
    write_bundle(tiny_config(tiny_msd(channels=("T1", "T2"))), output=tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize(("name", "kind"), [("train", "train"), ("evaluate", "infer"), ("inference", "infer")])
def test_has_the_properties_that_monai_asks_for(bundle: Path, name: str, kind: str) -> None:
    workflow = ConfigWorkflow(str(bundle / "configs" / f"{name}.yaml"), workflow_type=kind)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_metadata_is_complete(bundle: Path) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert [key for key in MANDATORY if key not in metadata] == []
    for tensors in metadata["network_data_format"].values():
        for tensor in tensors.values():
            assert [key for key in TENSOR if key not in tensor] == []
    channels = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    assert channels == {"0": "T1", "1": "T2"}
    outputs = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert outputs == {"0": "background", "1": "organ", "2": "lesion"}


def test_network_takes_and_gives_what_the_metadata_says(bundle: Path) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.yaml"),
        device="cpu",
    )


def test_how_an_image_reaches_the_network(tiny_msd, tmp_path: Path) -> None:
    root = tiny_msd()

    def inferer(**changes: object) -> dict:
        folder = tmp_path / f"bundle{len(changes)}"
        write_bundle(tiny_config(root, **changes), output=folder)
        return yaml.safe_load((folder / "configs" / "inference.yaml").read_text())["inferer"]

    assert inferer()["_target_"] == "medseg.inference.sliding.WindowInferer"
    levels = {"network.widths": [4, 8, 8], "network.strides": [1, 2, [2, 2, 1]]}
    whole = inferer(**levels, **{"inference.whole_image": True})
    assert whole == {"_target_": "medseg.inference.whole.WholeImageInferer", "multiple": [4, 4, 2]}


def test_text_is_data_of_plain_types(bundle: Path) -> None:
    content = yaml.safe_load((bundle / "configs" / "train.yaml").read_text())
    assert content["train"]["trainer"]["max_epochs"] == 2
    assert isinstance(content["optimizer"]["lr"], float)


@pytest.mark.slow
def test_monai_bundle_gives_the_same_weights_and_masks(tiny_msd, tmp_path: Path) -> None:
    root, run, copy = tiny_msd(cases=4), tmp_path / "run", tmp_path / "copy"
    changes = {"training__patch_growth": 0.5}
    finish(medseg(*train_arguments(root, run, **changes), cwd=tmp_path))
    config = tiny_config(root, **changes)
    write_bundle(config, output=copy)
    here = tmp_path / "elsewhere"
    here.mkdir()

    def monai_run(name: str, *overrides: str | Path) -> None:
        arguments = ["run", "--config_file", copy / "configs" / f"{name}.yaml", *overrides]
        finish(medseg(*arguments, cwd=here, module="monai.bundle"))

    monai_run("train", "--dataset_dir", root)
    assert same_weights(run / "models" / "model.pt", copy / "models" / "model.pt")

    monai_run("inference", "--dataset_dir", root / "imagesTs", "--output_dir", tmp_path / "masks")
    finish(medseg("predict", "--run", run, "--input", root / "imagesTs", "--output", tmp_path / "own", cwd=here))
    for mask in (tmp_path / "own").glob("*.nii.gz"):
        other = nib.load(tmp_path / "masks" / mask.name)
        assert np.array_equal(np.asarray(nib.load(mask).dataobj), np.asarray(other.dataobj))
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 1

    monai_run("evaluate", "--dataset_dir", root)
    theirs = json.loads((copy / "eval" / "metrics.json").read_text())
    assert theirs["scores"] == json.loads((run / "eval" / "metrics.json").read_text())["scores"]

    monai_run("train", "--train#trainer#max_epochs", "3")  # goes on, in the same folder
    lines = (copy / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
