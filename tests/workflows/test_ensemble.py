"""Ensembles of tiny runs: the mean of logits, other grids, who is scored on what, and what does not fit together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from medseg.bundle.facts import describe_data
from medseg.bundle.trained import Trained
from medseg.config.schema import Config
from medseg.core.errors import RunError
from medseg.data.cases.dataset import read_dataset
from medseg.engine.resume import load_weights
from medseg.inference.postprocess import to_native
from medseg.runs.folder import read_run
from medseg.runs.folds import fold_runs
from medseg.runs.members import held_out_by_all, read_members
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from tests.data.cases.test_pairs import draw


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {file.name: np.asarray(nib.load(file).dataobj) for file in sorted(folder.glob("*.nii.gz"))}


def changed(run: Path, to: Path, **sections: dict) -> Path:
    """A copy of a run whose config says something else, its weights the same."""
    from ruamel.yaml import YAML

    shutil.copytree(run, to, ignore=shutil.ignore_patterns("cache"))
    yaml = YAML(typ="safe", pure=True)
    config = yaml.load(to / "config.yaml")
    for section, values in sections.items():
        config[section] |= values
    with open(to / "config.yaml", "w") as file:
        yaml.dump(config, file)
    return to


def test_one_run_twice_is_the_run(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = crossed
    fold = run / "fold_0"
    predict(fold, input=root / "imagesTs", output=tmp_path / "one")
    predict([fold, fold], input=root / "imagesTs", output=tmp_path / "two")
    one, two = masks(tmp_path / "one"), masks(tmp_path / "two")
    assert one.keys() == two.keys() != set()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_folds_are_averaged_in_logit_space(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    """Against the mean that is computed here, from each fold's own bundle."""
    run, root = crossed
    assert fold_runs(run)
    assert not fold_runs(run / "fold_0")
    options = {"input": root / "imagesTs", "postprocess": False}
    (written,) = predict([run], output=tmp_path / "masks", **options)
    logits = []
    for fold in (run / "fold_0", run / "fold_1"):
        trained = read_run(fold)
        parser = ConfigParser(trained.compiled("inference"))
        network = load_weights(parser.get_parsed_content("network"), fold / "models" / "model.pt").eval()
        case = parser.get_parsed_content("preprocessing")({"image": str(root / "imagesTs" / written.name)})
        precision = parser.get_parsed_content("evaluator").precision
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            logits.append(parser.get_parsed_content("inferer")(case["image"].as_tensor()[None], network)[0].float())
    mean = (logits[0] + logits[1]) / 2
    expected = to_native(mean, case["image"].affine, case["native_affine"], case["native_shape"], trained.facts.labels)
    assert np.array_equal(masks(tmp_path / "masks")[written.name], expected.numpy())
    sidecar = json.loads((tmp_path / "masks" / "medseg" / written.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["model"]["members"] == "tiny fold 0, tiny fold 1"


def test_members_may_see_a_case_on_different_grids(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = crossed
    fine = changed(run / "fold_1", tmp_path / "fine", preprocessing={"spacing_mm": [1.0, 1.0, 1.0]})
    turned = changed(run / "fold_0", tmp_path / "turned", preprocessing={"orientation": "LPS"})
    runs = [run / "fold_0", fine, turned]
    (written,) = predict(runs, input=root / "imagesTs", output=tmp_path / "masks")
    image = nib.load(root / "imagesTs" / written.name)
    mask = nib.load(written)
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, image.affine)
    assert not (tmp_path / "masks" / "medseg" / "failed.csv").exists()


def test_folders_of_folds_are_scored_fold_by_fold(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = crossed
    one, two = tmp_path / "unet", tmp_path / "other"
    for folder in (one, two):
        shutil.copytree(run, folder)
    summary = evaluate([one, two], postprocess=False)
    assert summary["cases"] == 4
    table = json.loads((one / "eval-ensemble-other" / "metrics.json").read_text())
    alone = json.loads((run / "eval" / "metrics.json").read_text())
    key = lambda score: (score["case"], score["target"])  # noqa: E731
    assert sorted(table["scores"], key=key) == sorted(alone["scores"], key=key), "twice the same network"
    assert (one / "eval-ensemble-other" / "report.html").exists()
    (two / "fold_0").rename(two / "fold_2")  # the folds in another order
    (two / "fold_1").rename(two / "fold_0")
    (two / "fold_2").rename(two / "fold_1")
    with pytest.raises(RunError, match="has other folds"):
        evaluate([one, two])


def test_no_case_is_scored_by_a_network_that_trained_on_it(crossed: tuple[Path, Path]) -> None:
    run, _ = crossed
    with pytest.raises(RunError, match="no case is held out by all runs"):
        evaluate([run / "fold_0", run / "fold_1"])


def test_all_members_score_another_data_set(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = crossed
    mine, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(run, mine)
    shutil.copytree(root, other)
    assert evaluate([mine], data=other)["cases"] == 4
    assert (mine / "eval-ensemble-other" / "metrics.csv").exists()


def test_refuses_members_that_predict_something_else(crossed: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = crossed
    shutil.copytree(run / "fold_0", tmp_path / "other")
    facts = tmp_path / "other" / "data.json"
    content = json.loads(facts.read_text().replace('"lesion"', '"tumour"'))
    del content["sha256"]
    facts.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"other: labels .*tumour"):
        predict([run / "fold_0", tmp_path / "other"], input=root / "imagesTs", output=tmp_path / "masks")


def test_official_lists_are_held_out_as_the_run_has_them(tmp_path: Path) -> None:
    """A run that trained on `val` and held `train` out is not scored on `val`."""
    for split, names in (("train", "ab"), ("val", "cd")):
        for name in names:
            draw(
                tmp_path / "data" / "images" / split / f"{name}.png",
                tmp_path / "data" / "masks" / split / f"{name}.png",
            )
    root = str(tmp_path / "data")
    data = {
        "root": root,
        "classes": {"background": 0, "thing": 1},
        "training_split": "val",
        "validation_split": "train",
    }
    config = Config.model_validate({"name": "swapped", "data": data, "evaluation": {"convention": "medical"}})
    members = [Trained(tmp_path / name, config, describe_data(config)) for name in ("one", "two")]
    assert [case.name for case in held_out_by_all(members, read_dataset(root))] == ["a", "b"]


def test_who_trained_on_a_case_is_asked_even_if_another_list_holds_it_out(
    crossed: tuple[Path, Path], tmp_path: Path
) -> None:
    """The stored split counts, not the rules: a case that was added later is neither trained on nor held out."""
    run, root = crossed
    shutil.copytree(run / "fold_0", tmp_path / "one")
    file = tmp_path / "one" / "split.json"
    split = json.loads(file.read_text())
    split["validation"], split["training"] = split["validation"][:1], split["training"] + split["validation"][1:]
    del split["sha256"]
    file.write_text(json.dumps(split))
    members = read_members([run / "fold_0", tmp_path / "one"])
    assert [case.name for case in held_out_by_all(members, read_dataset(root))] == split["validation"]
