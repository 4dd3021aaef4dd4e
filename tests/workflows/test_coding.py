"""BraTS's coding 0/1/2/4 from the label files to the masks that `predict` saves."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import ConfigError
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.tiny import finish, medseg, tiny_config

CONSECUTIVE = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
BRATS = {"whole": [1, 2, 4], "core": [1, 4], "enhancing": [4]}


def values(mask: Path) -> np.ndarray:
    return np.asarray(nib.load(mask).dataobj)


def in_brats(root: Path) -> Path:
    """Nested balls 1, 2, 3 of a tiny data set as BraTS would number them: oedema 2, core 1, enhancing 4."""
    for path in (root / "labelsTr").iterdir():
        label = nib.load(path)
        nib.save(nib.Nifti1Image(np.array([0, 2, 1, 4], np.uint8)[np.asarray(label.dataobj)], label.affine), path)
    description = json.loads((root / "dataset.json").read_text())
    description["labels"] = {"0": "background", "1": "necrosis", "2": "oedema", "4": "enhancing tumour"}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def trained_on(root: Path, run: Path, regions: dict[str, list[int]], region_values: list[int]) -> Path:
    steps = {
        "training__max_epochs": 1,
        "training__iterations_per_epoch": 90,
        "training__optimizer__learning_rate": 0.01,
    }
    return train(tiny_config(root, data__regions=regions, data__region_values=region_values, **steps), run=run)


@pytest.mark.slow
def test_labels_0_1_2_4_are_read_and_come_back(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = in_brats(tiny_msd(cases=4, labels=("background", "oedema", "necrosis", "enhancing")))
    out, _ = finish(medseg("check", root, cwd=tmp_path))
    assert "error" not in out
    run = trained_on(root, tmp_path / "run", BRATS, [2, 1, 4])
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert all(metrics["targets"][name]["dice"] > 0.1 for name in BRATS), metrics["targets"]
    [own] = predict(run, input=root / "imagesTs", output=tmp_path / "own")
    [brats] = predict(run, input=root / "imagesTs", output=tmp_path / "brats", coding="brats")
    assert set(np.unique(values(own))) == {0, 1, 2, 4}
    np.testing.assert_array_equal(values(brats), values(own))


@pytest.mark.slow
def test_consecutive_labels_are_written_as_brats(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=4, labels=("background", "oedema", "necrosis", "enhancing"))
    run = trained_on(root, tmp_path / "run", CONSECUTIVE, [1, 2, 3])
    [own] = predict(run, input=root / "imagesTs", output=tmp_path / "own")
    asked = ["--run", run, "--input", root / "imagesTs", "--output", tmp_path / "brats", "--coding", "brats"]
    finish(medseg("predict", *asked, cwd=tmp_path))
    brats = tmp_path / "brats" / own.name
    assert set(np.unique(values(own))) == {0, 1, 2, 3}
    for region in BRATS:
        np.testing.assert_array_equal(np.isin(values(brats), BRATS[region]), np.isin(values(own), CONSECUTIVE[region]))
    np.testing.assert_array_equal(values(brats) == 4, values(own) == 3)
    header = b"".join(extension.content for extension in nib.load(brats).header.extensions)
    assert b'Key="4"' in header
    assert b'Key="3"' not in header
    rows = [next(csv.DictReader((tmp_path / way / "volumes.csv").open())) for way in ("own", "brats")]
    assert rows[0] == rows[1]
    assert float(rows[1]["core_ml"]) == pytest.approx(np.isin(values(brats), [1, 4]).sum() * 2 / 1000, abs=1e-3)

    [pair] = predict([run, run], input=root / "imagesTs", output=tmp_path / "two", coding="brats")
    np.testing.assert_array_equal(values(pair), values(brats))
    with pytest.raises(ConfigError, match="one for each of whole, core, enhancing"):
        predict(run, input=root / "imagesTs", output=tmp_path / "bad", coding="whole=1")
    assert not (tmp_path / "bad").exists()


@pytest.mark.slow
def test_a_coding_of_the_config_is_that_of_its_masks_but_not_of_its_scores(
    tiny_msd: Callable[..., Path], tmp_path: Path
) -> None:
    root = tiny_msd(cases=4)
    coding = {"organ": 7, "lesion": 200}
    options = {"training__iterations_per_epoch": 40, "training__max_epochs": 1, "inference__coding": coding}
    run = train(tiny_config(root, **options, training__optimizer__learning_rate=0.01), run=tmp_path / "run")
    assert json.loads((run / "eval" / "metrics.json").read_text())["targets"]["organ"]["dice"] > 0.2
    [mask] = predict(run, input=root / "imagesTs", output=tmp_path / "out")
    assert {0, 7} <= set(np.unique(values(mask))) <= {0, 7, 200}
    own = predict(run, input=root / "imagesTs", output=tmp_path / "own", coding="own")
    np.testing.assert_array_equal(values(own[0]) == 1, values(mask) == 7)


def test_mistakes_are_found_before_the_training(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = in_brats(tiny_msd(cases=4, labels=("background", "oedema", "necrosis", "enhancing")))
    with pytest.raises(ConfigError, match="3 for enhancing, but in the label files enhancing alone is 4"):
        train(tiny_config(root, data__regions=BRATS, data__region_values=[2, 1, 3]), run=tmp_path / "run")
    with pytest.raises(ConfigError, match="brats needs three regions"):
        train(tiny_config(root, inference__coding="brats"), run=tmp_path / "run")
