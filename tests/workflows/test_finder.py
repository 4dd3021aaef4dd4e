"""Two stages: the region is found on a coarse grid and delineated at full resolution; a run, a bundle, an ensemble."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.run import parser_of
from medseg.bundle.write import write_bundle
from medseg.core.errors import RunError
from medseg.data.training.identity import parameters
from medseg.planning.fitting import TRAINING
from medseg.runs.disposable import disposable
from medseg.runs.folder import read_run
from medseg.runs.spent import read_spent
from medseg.workflows.bundle import bundle
from medseg.workflows.evaluate import evaluate
from medseg.workflows.plan import plan, summary
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Predictor
from medseg.workflows.train import train
from tests.conftest import MadeOnce, write_drawn
from tests.tiny import finish, medseg, same_weights, tiny_config, together, train_arguments

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

    def drawn() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for number in range(cases + unlabelled):
            centre = np.array(BALL) + random.integers(-2, 3, 3)
            away = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(np.indices(SHAPE), centre, strict=True)))
            label = (away < 6).astype(np.uint8) + (away < 3)
            if number == cases + unlabelled - 1:
                label[:] = 0
            image = (random.normal(0, 5, SHAPE) + 100 * (label > 0) + 50 * (label > 1)).astype(np.float32)
            yield image, label if number < cases else None

    affine = np.diag([-1.0, 1.0, 1.0, 1.0])  # not the orientation that preprocessing asks for
    return write_drawn(root, drawn(), affine, labels=("background", "shell", "core"), channels=("CT",), files="ball")


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


def blind(run: Path) -> None:
    """Make the finder of a run one that is sure of the background everywhere."""
    file = run / "finder" / "models" / "model.pt"
    state = torch.load(file, weights_only=True)
    last = [name for name in state if name.endswith("bias")][-1]
    assert state[last].shape == (2,), "the logits' own bias"
    state[last] = torch.tensor([1e4, -1e4])
    torch.save(state, file)


def test_where_nothing_is_found_the_network_sees_the_whole_volume(
    two: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, root = shutil.copytree(two[0], tmp_path / "run"), two[1]
    blind(run)
    with caplog.at_level(logging.WARNING):
        [mask, _] = predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    assert sidecar(tmp_path / "masks", "ball_06")["region"] == {"found": False, "share": 1.0}
    assert "ball_06: no region was found" in caplog.text
    truth = np.asarray(nib.load(root / "imagesTs" / mask.name).dataobj) > 50
    assert (np.asarray(nib.load(mask).dataobj) > 0)[truth].mean() > 0.8


def test_masks_are_kept_while_both_networks_are_the_same(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = shutil.copytree(two[0], tmp_path / "run")
    evaluate(run)
    assert "2 of 2 cases have masks by these weights" in capsys.readouterr().out
    sidecars = list((run / "eval" / "masks" / "medseg").glob("*.json"))
    assert ["region" in json.loads(file.read_text()) for file in sidecars] == [True, True]
    blind(run)
    evaluate(run)
    assert "masks by these weights" not in capsys.readouterr().out


def test_a_cache_knows_a_finder_by_its_weights(two: tuple[Path, Path], tmp_path: Path) -> None:
    run, other = two[0], shutil.copytree(two[0], tmp_path / "run")

    def preprocessing(folder: Path) -> Any:
        return parser_of(read_run(folder).compiled("evaluate")).get_parsed_content("preprocessing")

    def key(transform: Any) -> str:
        return json.dumps(parameters(transform))

    used = preprocessing(run)
    before = key(used)
    used({"image": str(next((two[1] / "imagesTs").iterdir()))})
    assert key(used) == before == key(preprocessing(other))
    blind(other)
    assert key(preprocessing(other)) != before


def test_only_training_cases_are_cropped_by_their_labels(two: tuple[Path, Path]) -> None:
    run = read_run(two[0])
    steps = {
        kind: [step["_target_"].rpartition(".")[2] for step in part["preprocessing"]["transforms"]]
        for kind, part in {
            "train": run.compiled("train")["train"],
            "validate": run.compiled("train")["validate"],
            "evaluate": run.compiled("evaluate"),
            "inference": run.compiled("inference"),
        }.items()
    }
    assert [kind for kind, names in steps.items() if "CropToLabelledd" in names] == ["train"]
    assert [kind for kind, names in steps.items() if "CropToFoundd" in names] == ["validate", "evaluate", "inference"]


def test_the_first_stage_is_a_run_of_one_target_with_the_same_cases_held_out(two: tuple[Path, Path]) -> None:
    run = two[0]
    assert (run / "finder" / "split.json").read_text() == (run / "split.json").read_text()
    labels = read_run(run / "finder").facts.labels
    assert labels.targets == {"region": (1,)}
    assert labels.counts_as == {2: 1}
    stages = [read_spent(run / "finder"), read_spent(run)]
    assert all(stages)
    assert stages[0].training < stages[1].training, "the time of the run is that of both stages"  # type: ignore[union-attr]
    caches = {one.place.parent.name for one in disposable(run) if one.kind == "cache"}
    assert caches == {run.name, "finder"}


def test_a_run_without_its_finder_says_so(two: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(two[0], tmp_path / "run")
    (run / "finder" / "models" / "model.pt").unlink()
    with pytest.raises(RunError, match=r"finder/models/model.pt: no such file"):
        predict(run, input=two[1] / "imagesTs", output=tmp_path / "masks")


def test_members_find_regions_of_their_own(two: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = two
    other = shutil.copytree(run, tmp_path / "other")
    blind(other)
    [mask, _] = predict([run, other], input=root / "imagesTs", output=tmp_path / "both")
    [alone, _] = predict(run, input=root / "imagesTs", output=tmp_path / "alone")
    together, single = (np.asarray(nib.load(file).dataobj) > 0 for file in (mask, alone))
    assert together.any()
    assert 2 * (together & single).sum() / (together.sum() + single.sum()) > 0.8
    twice = predict([run, run], input=root / "imagesTs", output=tmp_path / "twice")
    assert np.array_equal(np.asarray(nib.load(twice[0]).dataobj), np.asarray(nib.load(alone).dataobj))


SHORT = TWO | {"training__max_epochs": 4, "training__iterations_per_epoch": 20}


@pytest.mark.slow
def test_monai_bundle_trains_both_stages_and_predicts_the_same(tmp_path: Path) -> None:
    root, run, copy = write_balls(tmp_path / "data", 4, 1), tmp_path / "run", tmp_path / "copy"
    finish(medseg(*train_arguments(root, run, **SHORT), cwd=tmp_path))
    write_bundle(tiny_config(root, **SHORT), output=copy)

    def monai_run(config: str, *overrides: str | Path) -> None:
        finish(medseg("run", "--config_file", copy / config, *overrides, cwd=tmp_path, module="monai.bundle"))

    monai_run("finder/configs/train.yaml", "--dataset_dir", root)
    monai_run("configs/train.yaml", "--dataset_dir", root)
    for weights in ("finder/models/model.pt", "models/model.pt"):
        assert same_weights(run / weights, copy / weights)
    monai_run("configs/inference.yaml", "--dataset_dir", root / "imagesTs", "--output_dir", tmp_path / "masks")
    [own] = predict(run, input=root / "imagesTs", output=tmp_path / "own")
    theirs = nib.load(tmp_path / "masks" / own.name)
    assert np.array_equal(np.asarray(nib.load(own).dataobj), np.asarray(theirs.dataobj))


class Stopped(BaseException):
    """As a process that is killed."""


@pytest.mark.parametrize("stage", ["finder", "."])
def test_a_run_that_stopped_in_either_stage_ends_in_the_same_weights(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.engine.resume import Checkpoints

    root, whole, broken = write_balls(tmp_path / "data", 4, 0), tmp_path / "whole", tmp_path / "broken"
    train(tiny_config(root, **SHORT), run=whole)
    save = Checkpoints.save

    def once(self: Checkpoints, engine: Any) -> None:
        save(self, engine)
        if self.folder.resolve() == (broken / stage / "models").resolve():
            raise Stopped

    monkeypatch.setattr(Checkpoints, "save", once)
    with pytest.raises(Stopped):
        train(tiny_config(root, **SHORT), run=broken)
    monkeypatch.undo()
    train(tiny_config(root, **SHORT), run=broken)
    for weights in ("finder/models/model.pt", "models/model.pt"):
        assert same_weights(whole / weights, broken / weights)


def test_minutes_are_those_of_both_stages_and_anew_is_anew(tmp_path: Path) -> None:
    root, run = write_balls(tmp_path / "data", 4, 0), tmp_path / "run"
    config = tiny_config(root, **SHORT, training__max_minutes=0.1)
    train(config, run=run)
    spent = read_spent(run)
    assert spent is not None
    assert spent.budget == pytest.approx(6.0)
    assert 4 < spent.training + spent.validation < 9
    before = (run / "finder" / "models" / "model.pt").stat().st_mtime_ns
    train(config, run=run)
    assert (run / "finder" / "models" / "model.pt").stat().st_mtime_ns == before, "finished with the second stage"
    train(tiny_config(root, **SHORT, training__max_minutes=0.02), run=run, restart=True)
    assert (run / "finder" / "models" / "model.pt").stat().st_mtime_ns != before


def test_folds_have_a_finder_each(tmp_path: Path) -> None:
    root, run = write_balls(tmp_path / "data", 4, 1), tmp_path / "run"
    config = tiny_config(root, **SHORT | {"training__iterations_per_epoch": 2, "data__folds": 2})
    train(config, run=run, fold="all")
    assert not same_weights(*(run / f"fold_{number}" / "finder" / "models" / "model.pt" for number in (0, 1)))
    assert predict(run, input=root / "imagesTs", output=tmp_path / "masks")


def test_a_bundle_of_a_fold_has_its_split_in_both_stages(tmp_path: Path) -> None:
    config = tiny_config(write_balls(tmp_path / "data", 4, 0), **SHORT, data__fold=1, data__folds=2)
    bundle(config, output=tmp_path / "bundle")
    splits = [(tmp_path / "bundle" / stage / "split.json").read_text() for stage in (".", "finder")]
    assert splits[0] == splits[1]
    assert "finder" in (tmp_path / "bundle" / "docs" / "README.md").read_text()


@pytest.mark.slow
def test_two_processes_train_both_stages(tmp_path: Path) -> None:
    root, run = write_balls(tmp_path / "data", 4, 1), tmp_path / "run"
    for process in together(2, *train_arguments(root, run, **SHORT), cwd=tmp_path):
        finish(process)
    assert (run / "eval" / "metrics.json").is_file()
    assert predict(run, input=root / "imagesTs", output=tmp_path / "masks")


def test_slices_are_seen_within_the_region(tmp_path: Path) -> None:
    root, run = write_balls(tmp_path / "data", 4, 1), tmp_path / "run"
    flat = {"network__spatial_dims": 2, "data__context": 3, "training__patch_size": [16, 16]}
    train(tiny_config(root, **SHORT | flat | {"finder__patch_size": [8, 8]}), run=run)
    [mask] = predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    assert nib.load(mask).shape == SHAPE
    assert "region" in sidecar(tmp_path / "masks", "ball_04")


def test_a_plan_proposes_two_stages_where_a_volume_is_many_patches(tmp_path: Path, tiny_msd: Any) -> None:
    """Nothing is edited between the plan and the masks; the memory is what makes the patch small."""
    root = write_balls(tmp_path / "data", 6, 1)
    small: dict[str, Any] = {"minutes": 0.5, "memory_gib": 0.71, "overrides": ["network.spatial_dims=3"]}
    made = plan(root, output=tmp_path / "plan.yaml", **small)
    text = (tmp_path / "plan.yaml").read_text()
    assert "Fitted:    3d two stages: " in text
    assert "Fitted:    3d: " in text
    plan(again=tmp_path / "plan.json", output=tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text().replace("again.yaml", "plan.yaml") == text
    asked = plan(
        root, output=tmp_path / "asked.yaml", **small | {"overrides": ["finder.margin_mm=5", "finder.share=0.6"]}
    )
    assert asked.config.finder is not None
    assert asked.config.finder.margin_mm == 5.0
    assert asked.proposal.sampling.steps == int(TRAINING * 30 * 0.4 / asked.proposal.step.seconds), "of what is left"
    assert "finder    sees voxels" in summary(asked)
    training = asked.config.training.model_copy(update={"max_minutes": 0.05})
    run = train(asked.config.model_copy(update={"training": training}), run=tmp_path / "run")
    assert predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    few = plan(tiny_msd(cases=6), output=tmp_path / "few.yaml", minutes=0.5)
    assert few.config.finder is None
    assert "two stages" not in (tmp_path / "few.yaml").read_text()
    assert made.config.data.validation == 0.2
