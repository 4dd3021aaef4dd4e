"""Runs whose classes are merged, from a config to a report: only the files still know the old classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.bundle.facts import describe_data
from medseg.bundle.write import write_bundle
from medseg.config.load import load_config
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, DataError, RunError
from medseg.data.cases.dataset import read_dataset
from medseg.data.splits.folds import class_presence
from medseg.planning.fingerprint import fingerprint
from medseg.runs.folder import open_run
from medseg.runs.official import read_data
from medseg.selection.trial import TrialCase, attempt
from medseg.workflows.evaluate import evaluate
from medseg.workflows.plan import plan
from medseg.workflows.predict import predict
from medseg.workflows.score import score
from medseg.workflows.train import train
from tests.tiny import finish, medseg, tiny_config

OLD = "{sky: 0, tree: 2, road: 3, car: 7, bus: 9}"
NEW = {"background": (0, 2, 3), "vehicle": (7, 9)}  # in a mask: 0 and 7
VEHICLES = "{background: [rest], vehicle: [car, bus]}"
LIGHT = [
    "network.pretrained=null",
    "network.pyramid_channels=8",
    "network.segmentation_channels=8",
    "training.max_iterations=2",
    "training.iterations_per_epoch=2",
    "training.validation_interval=1",
    "training.batch_size=2",
    "training.workers=0",
]


def vehicles(root: Path, *overrides: str) -> Config:
    """The shipped config for a folder of pairs, light enough for a test."""
    data = ["data.card=null", f"data.root={root}", f"data.classes={OLD}", f"data.merge={VEHICLES}"]
    more = ["data.ignore_index=255", "data.training_split=train", "training.patch_size=[32, 32]"]
    width = "network.encoder_options.width=0.25"
    return load_config("voc_portrait", [*LIGHT, *data, *more, width, *overrides])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes of the old classes: 3 pictures to train on, 2 to validate; 255 is void."""
    root = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            stripes = random.permutation([0, 2, 3, 7, 9, 255]).repeat([9, 4, 5, 8, 6, 2])
            label = stripes[:, None] + np.zeros((1, 36), np.int64)
            image = np.stack([label * 20, 255 - label * 20, label], -1) + random.integers(0, 9, (34, 36, 3))
            for folder, pixels in (("images", image.clip(0, 255)), ("masks", label)):
                path = root / folder / split / f"{split}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Pillow.fromarray(pixels.astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(vehicles(pairs), run=tmp_path_factory.mktemp("merged") / "run")


def read(files: Sequence[Path]) -> list[np.ndarray]:
    return [np.asarray(Pillow.open(file)) for file in sorted(files)]


def iou_by_hand(truths: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """Over all pictures together; the truth as it is on disk."""
    found = {}
    for name, values in NEW.items():
        both = either = 0
        for truth, mask in zip(truths, masks, strict=True):
            true, predicted = np.isin(truth, values), (mask == values[0]) & (truth != 255)
            both, either = both + (true & predicted).sum(), either + (true | predicted).sum()
        found[name] = both / either
    return found


@pytest.mark.parametrize("split", ["val", "train"])
def test_figures_are_those_of_hand_counts(run: Path, pairs: Path, split: str) -> None:
    if split == "train":
        evaluate(run, split=split)
    folder = run / ("eval" if split == "val" else f"eval-{split}")
    metrics = json.loads((folder / "metrics.json").read_text())
    truths, masks = read([*(pairs / "masks" / split).iterdir()]), read([*(folder / "masks").glob("*.png")])
    assert {9, 7, 2} <= set(np.unique(truths[0])), "the files know nothing of the merging"
    assert set(np.unique(masks)) <= {0, 7}
    assert {name: one["iou"] for name, one in metrics["classes"].items()} == pytest.approx(iou_by_hand(truths, masks))
    assert (run / "report.html" if split == "val" else folder / "report.html").is_file()


def test_validation_and_weights_are_of_the_merged_classes(run: Path, pairs: Path) -> None:
    header, *rows = (run / "history.csv").read_text().splitlines()
    last = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert {key for key in last if key.startswith("val/iou/")} == {"val/iou/background", "val/iou/vehicle"}
    assert 0 <= float(last["val/mean_iou"]) <= 1
    assert set(metrics["classes"]) == set(NEW)

    truths = np.concatenate(read([*(pairs / "masks" / "train").iterdir()]))
    counts = np.array([np.isin(truths, values).sum() for values in NEW.values()])
    expected = np.sqrt(np.median(counts / counts.sum()) / (counts / counts.sum()))
    kept = json.loads((run / "class_weights.json").read_text())["weights"]
    assert list(kept) == list(NEW)
    np.testing.assert_allclose(list(kept.values()), expected)


def test_a_prediction_needs_the_folder_of_the_run_only(run: Path, pairs: Path, tmp_path: Path) -> None:
    alone = tmp_path / "run"
    shutil.copytree(run, alone, ignore=shutil.ignore_patterns("cache", "eval*", "configs"))
    masks = predict(alone, input=pairs / "images" / "val", output=tmp_path / "out")
    for mask in masks:
        assert np.array_equal(*read([mask, run / "eval" / "masks" / mask.name]))
        assert set(json.loads((mask.parent / "medseg" / f"{mask.stem}.json").read_text())["share"]) <= set(NEW)


def test_a_run_keeps_its_classes(run: Path, pairs: Path, tmp_path: Path) -> None:
    same = tmp_path / "run"
    shutil.copytree(run, same)
    other = vehicles(pairs, "data.merge={background: [rest], vehicle: [bus]}")
    with pytest.raises(RunError, match=r"data\.merge\.vehicle: is \['bus'\], but this run was begun with"):
        open_run(other, same, read_data(other))
    open_run(other, same, read_data(other), restart=True)
    assert not (same / "class_weights.json").exists(), "they were those of the other classes"


def test_a_value_that_no_class_has_is_still_an_error(pairs: Path, tmp_path: Path) -> None:
    root = tmp_path / "pairs"
    shutil.copytree(pairs, root)
    bad = root / "masks" / "train" / "train1.png"
    label = np.array(Pillow.open(bad))
    label[0, :3] = 8
    Pillow.fromarray(label).save(bad)
    with pytest.raises(DataError, match=r"(?s)train1\.png.*8 \(3 pixels\)"):
        train(vehicles(root), run=tmp_path / "run")
    with pytest.raises(ConfigError, match="no class 'lorry'"):
        train(vehicles(root, "data.merge={background: [rest], vehicle: [lorry]}"), run=tmp_path / "other")


@pytest.mark.slow
def test_monai_bundle_runs_with_the_bundle_alone(run: Path, pairs: Path, tmp_path: Path) -> None:
    copy, here = tmp_path / "copy", tmp_path / "elsewhere"
    here.mkdir()
    write_bundle(vehicles(pairs), output=copy)
    for name in ("train", "evaluate"):
        config = copy / "configs" / f"{name}.yaml"
        finish(medseg("run", "--config_file", config, "--dataset_dir", pairs, cwd=here, module="monai.bundle"))
    assert not (copy / "data.json").exists(), "the mapping is in the bundle"
    assert (copy / "class_weights.json").read_text() == (run / "class_weights.json").read_text()
    metrics = json.loads((copy / "eval" / "metrics.json").read_text())
    truths, masks = read([*(pairs / "masks" / "val").iterdir()]), read([*(copy / "eval" / "masks").glob("*.png")])
    assert {name: one["iou"] for name, one in metrics["classes"].items()} == pytest.approx(iou_by_hand(truths, masks))


WHOLE = {"background": ["background"], "all": ["organ", "lesion"]}


def test_volumes_are_merged_too(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=4)
    config = tiny_config(root, data__merge=WHOLE, training__max_epochs=1, training__iterations_per_epoch=1)
    run = train(config, run=tmp_path / "run")
    (score_of,) = json.loads((run / "eval" / "metrics.json").read_text())["scores"]
    assert score_of["target"] == "all"
    name = f"{score_of['case']}.nii.gz"
    truth = np.asarray(nib.load(root / "labelsTr" / name).dataobj) > 0
    mask = np.asarray(nib.load(run / "eval" / "masks" / name).dataobj) == 1
    assert score_of["dice"] == pytest.approx(2 * (truth & mask).sum() / (truth.sum() + mask.sum()))


def test_postprocessing_is_decided_on_the_merged_classes(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=1, unlabelled=0)
    labels = describe_data(tiny_config(root, data__merge=WHOLE)).labels
    truth = root / "labelsTr" / "tiny_00.nii.gz"
    volume = nib.load(truth)
    whole = np.minimum(np.asarray(volume.dataobj), 1).astype(np.uint8)
    whole[:3, :3, :3] = 1
    nib.save(nib.Nifti1Image(whole, volume.affine), tmp_path / "mask.nii.gz")
    case = TrialCase("tiny_00", 0, str(tmp_path / "mask.nii.gz"), str(truth), 3)
    (of_all,) = attempt(case, labels=labels, sets=[{"keep_largest_component": ["all"]}])
    assert of_all.tolist() == [[whole.sum() - 27, 0, 0, 1, 1, 0]], "the organ with its lesion is one part"


def test_folds_and_plans_count_the_merged_classes(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=4)
    facts = describe_data(tiny_config(root, data__merge=WHOLE))
    dataset = read_dataset(root)
    assert set(class_presence(dataset.cases, facts.labels).values()) == {frozenset({"all"})}
    measured = fingerprint(dataset, "MR", labels=facts.labels, channels=facts.channels, progress=False)
    labels = {file.name[:-7]: np.asarray(nib.load(file).dataobj) for file in (root / "labelsTr").iterdir()}
    assert {case.case: dict(case.voxels) for case in measured.cases} == {
        name: {"all": int((label > 0).sum())} for name, label in labels.items()
    }
    merge = "data.merge={background: [background], all: [rest]}"
    made = plan(root, output=tmp_path / "plan.yaml", overrides=[merge, "network.widths=[4, 8]"], progress=False)
    assert describe_data(made.config).labels.classes == {"background": 0, "all": 1}


@pytest.mark.slow
def test_the_portrait_recipe_on_voc(test_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    shutil.copytree(test_data / "VOCdevkit_sample" / "VOC2012", root)
    lists = root / "ImageSets" / "Segmentation"  # the same three in each: none would be held out
    *trained, held_out = (lists / "trainval.txt").read_text().split()
    (lists / "train.txt").write_text("\n".join(trained))
    (lists / "val.txt").write_text(held_out)
    light: dict[str, Any] = {"data.root": root, "data.training_split": "train", "training.patch_size": "[64, 64]"}
    run = train(load_config("voc_portrait", [*LIGHT, *(f"{k}={v}" for k, v in light.items())]), run=tmp_path / "run")
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert metrics["convention"] == "voc"
    assert metrics["cases"] == 1
    assert list(metrics["classes"]) == ["background", "person"]
    masks = sorted((run / "eval" / "masks").glob("*.png"))
    assert Pillow.open(masks[0]).getpalette()[45:48] == [192, 128, 128], "a person in VOC's own colour"
    report = score(run / "eval" / "masks", root / "SegmentationClass", dataset="voc2012", workers=1, progress=False)
    assert report.table.summary()["classes"]["person"] == metrics["classes"]["person"], "its value is VOC's own too"
