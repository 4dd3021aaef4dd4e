"""From a config to a saved mask and a report, through the same functions as the command line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.core.errors import ConfigError, DataError, PartialFailure, RunError
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.tiny import finish, medseg, tiny_config, together, torchrun, train_arguments

OBLIQUE = nib.affines.from_matvec(
    np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.diag([1.1, 0.9, 2.0]), [5, -7, 11]
)
AFFINES = {
    "axis_aligned": np.diag([1.0, 1, 2, 1]),
    "flipped": nib.affines.from_matvec(np.diag([-1.0, -1, 2]), [90, 120, -70]),
    "permuted": nib.affines.from_matvec(np.array([[0, 0, 1.0], [1.5, 0, 0], [0, -1, 0]]), [0, 3, 4]),
    "anisotropic": np.diag([0.5, 0.5, 5, 1]),
    "oblique": OBLIQUE,
}


def test_a_run_holds_everything_and_every_scalar_is_named(trained: tuple[Path, Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = trained
    for name in ("config.yaml", "environment.json", "configs/train.yaml", "models/model.pt", "history.csv"):
        assert (run / name).is_file(), name
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert metrics["convention"] == "medical"
    assert set(metrics["targets"]) == {"organ", "lesion"}
    assert metrics["cases"] == 2  # a quarter of six, rounded
    page = (run / "report.html").read_text()
    assert "organ" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?https?:|url\(\s*["']?https?:""", page), "the report needs no network"

    log = EventAccumulator(str(run / "tensorboard"))
    log.Reload()
    tags = set(log.Tags()["scalars"])
    assert {"train/loss", "val/mean_dice", "val/dice/organ", "val/dice/lesion", "final/hd95_mm/organ"} <= tags
    assert log.Tags()["images"]


@pytest.mark.parametrize("name", AFFINES)
def test_mask_lies_on_the_grid_of_its_image(trained: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    run, _ = trained
    image = nib.Nifti1Image(np.random.default_rng(0).normal(100, 20, (18, 21, 13, 2)).astype(np.int16), AFFINES[name])
    image.set_sform(AFFINES[name], code=2)
    image.set_qform(AFFINES[name], code=1)
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "scan.nii.gz")
    image = nib.load(tmp_path / "in" / "scan.nii.gz")
    [path] = predict(run, input=tmp_path / "in", output=tmp_path / "out")
    mask = nib.load(path)
    assert mask.shape == (18, 21, 13)
    assert np.array_equal(mask.affine, image.affine)
    assert int(mask.header["sform_code"]) == 2
    assert int(mask.header["qform_code"]) == 1
    assert mask.get_data_dtype() == np.uint8
    sidecar = json.loads((tmp_path / "out" / "medseg" / "scan.json").read_text())
    voxels = np.isin(np.asarray(mask.dataobj), [1]).sum()
    ml = voxels * abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert sidecar["volume_ml"]["organ"] == pytest.approx(ml, abs=1e-3)


def test_one_bad_scan_never_stops_the_others(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    images = tmp_path / "images"
    shutil.copytree(root / "imagesTs", images)
    good = sorted(path.name for path in images.iterdir())
    (images / "a_text.nii.gz").write_bytes(b"no gzip")
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)), images / "one_channel.nii.gz")
    holes = np.ones((8, 8, 8, 2), np.float32)
    holes[2, 3, 4, 1] = np.nan
    nib.save(nib.Nifti1Image(holes, np.eye(4)), images / "nan.nii.gz")
    output = tmp_path / "masks"
    with pytest.raises(PartialFailure, match=r"(?s)a_text.*nan.*NaN.*one_channel.*channels") as failure:
        predict(run, input=images, output=output)
    assert failure.value.result == {"masks": [str(output / name) for name in good]}
    assert sorted(path.name for path in output.glob("*.nii.gz")) == good
    rows = (output / "medseg" / "failed.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["case", "a_text", "nan", "one_channel"]

    before = {path: path.stat().st_mtime_ns for path in output.glob("*.nii.gz")}
    for name in ("a_text", "nan", "one_channel"):
        (images / f"{name}.nii.gz").unlink()
    predict(run, input=images, output=output)
    assert before == {path: path.stat().st_mtime_ns for path in output.glob("*.nii.gz")}, "skipped, not made anew"
    assert not (output / "medseg" / "failed.csv").exists()


def test_another_data_set_is_evaluated_whole(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    copy = tmp_path / "hospital"
    shutil.copytree(root, copy)
    case = next((copy / "labelsTr").iterdir())
    label = nib.load(case)
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj)[:-1], label.affine), case)  # another shape than its image
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    with pytest.raises(PartialFailure, match=r"shape") as failure:
        evaluate(mine, data=copy)
    metrics = json.loads((mine / "eval-hospital" / "metrics.json").read_text())
    assert metrics["cases"] == failure.value.result["cases"] == 5
    assert (mine / "eval" / "metrics.json").read_text() == (run / "eval" / "metrics.json").read_text()


def test_regions_and_an_ignored_value_through_the_whole_pipeline(tiny_msd, tmp_path: Path) -> None:
    root = tiny_msd(cases=4, labels=("background", "oedema", "core"))
    changes = {"regions": {"whole": [1, 2], "core": [2]}, "region_values": [1, 2], "ignore_index": 9}
    for path in (root / "labelsTr").iterdir():
        label = nib.load(path)
        values = np.asarray(label.dataobj).copy()
        values[:2] = 9
        nib.save(nib.Nifti1Image(values, label.affine), path)
    run = train(tiny_config(root, **{f"data__{k}": v for k, v in changes.items()}), run=tmp_path / "run")
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert set(metrics["targets"]) == {"whole", "core"}
    voxels = np.asarray(nib.load(next((root / "labelsTr").iterdir())).dataobj).size
    assert all(s["true_positives"] + s["false_positives"] <= voxels * 18 / 20 for s in metrics["scores"])


def test_two_dimensions_from_the_same_path(tiny_msd, tmp_path: Path) -> None:
    root = tiny_msd(cases=4, shape=(24, 20), spacing_mm=(1.0, 1.0, 1.0))
    config = tiny_config(root, network__spatial_dims=2, training__patch_size=[16, 16])
    run = train(config, run=tmp_path / "run")
    [mask] = predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    assert nib.load(mask).shape == (24, 20)


def test_usage_errors_say_what_to_do(trained: tuple[Path, Path], tmp_path: Path, tiny_msd) -> None:
    run, root = trained
    with pytest.raises(ConfigError, match=r"data\.root=DIR"):
        train(tiny_config(root, data__root=None), run=tmp_path / "x")
    changes = {"network__name": "fcn32s", "network__encoder": "resnet18", "network__widths": None}
    with pytest.raises(ConfigError, match="encoder must be vgg16, vgg16_bn or alexnet, got 'resnet18'"):
        train(tiny_config(root, **changes), run=tmp_path / "x")
    assert not (tmp_path / "x").exists(), "nothing is prepared for a network that cannot be built"
    with pytest.raises(RunError, match="no run of medseg"):
        predict(tmp_path, input=root, output=tmp_path / "y")
    with pytest.raises(DataError):
        predict(run, input=tmp_path / "nothing", output=tmp_path / "y")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="is no run of medseg"):
        train(tiny_config(tiny_msd()), run=tmp_path / "mine", restart=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_models_yaml_is_never_executed(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    for path in (mine / "configs").glob("*.yaml"):
        path.write_text(path.read_text() + f"\nimports:\n- $open({str(tmp_path / 'executed')!r}, 'w')\n")
    predict(mine, input=root / "imagesTs", output=tmp_path / "masks")
    assert not (tmp_path / "executed").exists()

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"weight": Trap()}, mine / "models" / "model.pt")
    with pytest.raises(RunError, match="more than tensors"):
        predict(mine, input=root / "imagesTs", output=tmp_path / "masks", overwrite=True)
    assert not (tmp_path / "executed").exists()


def test_dry_run_writes_nothing(tiny_msd, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    before = sorted(tmp_path.rglob("*"))
    root = tiny_msd()
    written = sorted(tmp_path.rglob("*"))
    train(tiny_config(root), run=tmp_path / "run", dry_run=True)
    assert sorted(tmp_path.rglob("*")) == written != before
    printed = capsys.readouterr().out
    assert "3 cases to train on, 1 held out" in printed
    assert "GMAC" in printed


@pytest.mark.slow
def test_two_processes_count_no_case_twice(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = trained
    mine = tmp_path / "run"
    shutil.copytree(run, mine)
    again = ("evaluate", "--run", mine, "--anew")
    finish(medseg(*again, cwd=tmp_path))  # a process of its own, as many threads as the two have
    expected = json.loads((mine / "eval" / "metrics.json").read_text())["scores"]
    (mine / "eval" / "metrics.json").unlink()
    for process in together(2, *again, cwd=tmp_path):
        finish(process)
    scores = json.loads((mine / "eval" / "metrics.json").read_text())["scores"]
    key = lambda score: (score["case"], score["target"])  # noqa: E731
    assert sorted(scores, key=key) == sorted(expected, key=key)


@pytest.mark.slow
def test_two_processes_train(tiny_msd, tmp_path: Path) -> None:
    run = tmp_path / "run"
    root = tiny_msd(cases=5)
    finish(torchrun(2, *train_arguments(root, run), cwd=tmp_path))
    assert json.loads((run / "eval" / "metrics.json").read_text())["cases"] == 1
    assert len((run / "history.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_two_processes_train_for_minutes(tiny_msd, tmp_path: Path) -> None:
    """They leave after the same step, validate the same number of times, and share the masks that are there."""
    run, root = tmp_path / "run", tiny_msd(cases=8)
    arguments = train_arguments(root, run, data__validation=0.4, training__max_minutes=0.1)
    finish(torchrun(2, *arguments, cwd=tmp_path))
    assert json.loads((run / "eval" / "metrics.json").read_text())["cases"] == 3  # of which one has two, one has one
    assert json.loads((run / "time.json").read_text())["validation"] > 0
    out, _ = finish(torchrun(2, *arguments, cwd=tmp_path))
    assert "3 of 3 cases have masks by these weights" in out


SEES_OLDER_WEIGHTS = """
import os
from medseg.cli import main
from medseg.workflows import evaluate

if os.environ["RANK"] == "1":
    evaluate.made_by = lambda *_: {"weights": "as they were before the first process wrote them", "pipeline": ""}
main()
"""


@pytest.mark.slow
def test_the_first_process_says_what_made_the_masks(tiny_msd, tmp_path: Path) -> None:
    """The other one may look while the last weights of a training are being written."""
    run, root = tmp_path / "run", tiny_msd(cases=8)
    train(tiny_config(root, data__validation=0.4), run=run)
    (tmp_path / "early.py").write_text(SEES_OLDER_WEIGHTS)
    for process in together(2, "evaluate", "--run", run, "--anew", cwd=tmp_path, module="early"):
        finish(process)
    sidecars = [json.loads(file.read_text()) for file in (run / "eval" / "masks" / "medseg").glob("*.json")]
    assert len(sidecars) == 3
    assert len({(sidecar["origin"]["weights"], sidecar["origin"]["pipeline"]) for sidecar in sidecars}) == 1


SMALL_ENCODER = {"network__encoder": "resnet18", "network__encoder_options": {"width": 0.125}}


@pytest.mark.slow
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deeplabv3plus", {**SMALL_ENCODER, "network__width": 8, "network__auxiliary": True}),
        ("encnet", {**SMALL_ENCODER, "network__channels": 8, "network__codes": 4, "network__auxiliary": True}),
        (
            "hrnet",
            {
                "network__encoder": "hrnet_w18s",
                "network__encoder_options": {"width": 4, "stem_width": 8},
                "network__norm": "batch",
            },
        ),
    ],
)
def test_other_networks_by_name(tiny_msd, tmp_path: Path, name: str, options: dict, spatial_dims: int) -> None:
    """Auxiliary heads and EncNet's presence branch train; the bundle names every option."""
    shape = (24, 20, 16)[:spatial_dims]
    root = tiny_msd(cases=4, shape=shape, spacing_mm=(1.0, 1.0, 1.0))
    config = tiny_config(
        root,
        network__widths=None,
        network__name=name,
        network__spatial_dims=spatial_dims,
        training__patch_size=list(shape),
        training__max_epochs=1,
        **{"network__norm": "instance", **options},
    )
    run = train(config, run=tmp_path / "run")
    metrics = json.loads((run / "eval" / "metrics.json").read_text())
    assert metrics["cases"] == 1
    assert "encoder_options:" in (run / "configs" / "train.yaml").read_text()


@pytest.mark.slow
def test_early_stop_ends_a_run_that_no_longer_improves_and_keeps_it_ended(tiny_msd, tmp_path: Path) -> None:
    root = tiny_msd(cases=4)
    config = tiny_config(root, training__optimizer__learning_rate=1e-12, training__early_stop_epochs=2)
    config = config.model_copy(update={"training": config.training.model_copy(update={"max_epochs": 9})})
    for _ in range(2):  # the second time there is nothing to do
        run = train(config, run=tmp_path / "run")
        rows = (run / "history.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3"]
