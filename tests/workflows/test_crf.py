"""The dense CRF by config: through bundles to the masks of predict and evaluate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from medseg.config.schema import Config
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.tiny import tiny_config


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(nib.load(path).dataobj) for path in sorted(folder.glob("*.nii.gz"))}


def steps(run: Path, bundle: str) -> list[dict[str, Any]]:
    content = yaml.safe_load((run / "configs" / f"{bundle}.yaml").read_text())
    names = [one.removeprefix("@steps#") for one in content["postprocessing"]["transforms"]]
    return [content["steps"][name] for name in names]


def with_crf(config: Config, **crf: Any) -> Config:
    tree = config.model_dump()
    return Config.model_validate(tree | {"inference": tree["inference"] | {"crf": crf}})


def test_volumes_of_classes(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """A finished run takes a CRF by the same command again: it is not trained, only evaluated anew."""
    run, root = trained
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    config = with_crf(tiny_config(root), parameters="deeplabv2", image_std=20.0, iterations=3)
    train(config, run=mine)
    assert (mine / "models" / "model.pt").read_bytes() == (run / "models" / "model.pt").read_bytes()
    for bundle, between in (("evaluate", 0), ("inference", 1)):  # maps are of the refined logits too
        first, *then = steps(mine, bundle)
        assert first["_target_"] == "medseg.inference.refine.DenseCRFd"
        assert all(step["_target_"].endswith("SaveMapsd") for step in then[:between])
        assert then[between]["_target_"].endswith("LogitsToMaskd")
        assert first["margin"] == 20
        assert first["guide"] == "stretched"
        assert first["parameters"] == {
            "_target_": "medseg.inference.crf.CRFParameters",
            "iterations": 3,
            "gaussian_weight": 3,
            "gaussian_std": 1,
            "bilateral_weight": 4,
            "bilateral_std": 67,
            "image_std": 20.0,
            "minimum_probability": 1e-5,
        }
    before, after = masks(run / "eval" / "masks"), masks(mine / "eval" / "masks")
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    scores = [json.loads((folder / "eval" / "metrics.json").read_text())["scores"] for folder in (run, mine)]
    assert scores[0] != scores[1]

    for folder, name in ((run, "plain"), (mine, "crf")):
        predict(folder, input=root / "imagesTs", output=tmp_path / name)
    plain, refined = masks(tmp_path / "plain"), masks(tmp_path / "crf")
    assert len(refined) == 2
    assert any((plain[name] != refined[name]).any() for name in plain)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [("red", "green", "blue"), ("T1", "T1gd", "T2")])
def test_images_of_regions(tiny_msd, tmp_path: Path, channels: tuple[str, ...]) -> None:
    root = tiny_msd(cases=4, shape=(24, 20), spacing_mm=(1.0, 1.0, 1.0), channels=channels)
    for path in root.glob("images*/*.nii.gz"):  # NIfTI's channels are the axis after the third
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, None], image.affine), path)
    regions = {"regions": {"whole": [1, 2], "core": [2]}, "region_values": [1, 2]}
    config = tiny_config(
        root,
        network__spatial_dims=2,
        training__patch_size=[16, 16],
        training__max_epochs=1,
        **{f"data__{key}": value for key, value in regions.items()},
    )
    run = train(config, run=tmp_path / "run")
    before = masks(run / "eval" / "masks")
    train(with_crf(config, parameters="pydensecrf", minimum_probability=0.3), run=run)
    after = masks(run / "eval" / "masks")
    first = steps(run, "evaluate")[0]
    assert first["margin"] is None
    assert first["guide"] == ("picture" if "red" in channels else "stretched")
    assert any((before[name] != after[name]).any() for name in before)
    assert evaluate(run)["cases"] == 1
