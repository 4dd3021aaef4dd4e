"""Plans that are written for files that are real."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from medseg.config.load import load_config
from medseg.core.errors import ConfigError
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import Dataset
from medseg.engine.memory import OutOfMemory
from medseg.planning import fitting
from medseg.planning.step import measure_step
from medseg.workflows import plan as planning
from medseg.workflows.plan import plan, summary
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from medseg.workflows.try_out import official_folds, without_test


def test_a_plan_validates_says_why_and_is_the_same_again(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=12, shape=(20, 24, 18), spacing_mm=(1.0, 1.0, 1.0))
    made = plan(root, output=tmp_path / "one.yaml", minutes=2, overrides=["network.widths=[4, 8]", "seed=3"])
    text = (tmp_path / "one.yaml").read_text()
    assert made.config == load_config(tmp_path / "one.yaml")
    assert made.config.data.root == str(root)
    assert made.config.network.widths == [4, 8]
    assert "network   3D U-Net 4-8, " in summary(made)
    assert made.config.seed == 3
    assert "widths: [4, 8]" in text
    assert text.count("#") > 25
    assert "{measured}" not in text
    plan(again=tmp_path / "one.json", output=tmp_path / "two.yaml")
    assert (tmp_path / "two.yaml").read_text().replace("two.yaml", "one.yaml") == text
    records = [json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json")]
    digests = [record.pop("written") for record in records]  # of the configs, which name themselves
    assert records[0] == records[1]
    assert digests[0] != digests[1]
    with pytest.raises(ConfigError, match="exists already"):
        plan(root, output=tmp_path / "one.yaml")


def test_a_plan_replaces_no_file_of_the_users(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=3, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    before = (root / "dataset.json").read_bytes()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"dataset.json: is there already, and medseg did not write it"):
            plan(root, output=root / "dataset.yaml", minutes=1, overwrite=overwrite)
    assert (root / "dataset.json").read_bytes() == before
    with pytest.raises(ConfigError, match=r"NAME\.yaml"):
        plan(root, output=tmp_path / "plan.json", minutes=1)


def test_a_plan_is_repeated_on_its_own_data_and_as_it_was_asked(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=3, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    plan(root, output=tmp_path / "one.yaml", minutes=1)
    again = tmp_path / "one.json"
    with pytest.raises(ConfigError, match="leave those out"):
        plan(again=again, output=tmp_path / "two.yaml", minutes=2)
    other = tiny_msd(cases=4, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0), name="other")
    with pytest.raises(ConfigError, match="other data"):
        plan(other, again=again, output=tmp_path / "two.yaml")
    content = json.loads(again.read_text())
    for key, value in {"minutes": "ten", "data": None, "steps": {"x": {"seconds": "x"}}, "machine": 3}.items():
        again.write_text(json.dumps(content | {key: value}))
        with pytest.raises(ConfigError, match="no record of a plan"):
            plan(again=again, output=tmp_path / "two.yaml")
    assert not (tmp_path / "two.yaml").exists()


def test_no_trial_touches_what_the_data_hold_out() -> None:
    parts = ("train", "val", "test")
    cases = {part: tuple(Case(f"{part}{n}", (f"{part}{n}.png",), "x") for n in range(6)) for part in parts}
    every = tuple(case for listed in cases.values() for case in listed)
    labels = Labels({"background": 0, "cell": 1})
    data = Dataset(Path("data"), "pictures", "made", ("grey",), labels, every, unlabelled=(), splits=cases)
    used = without_test(data)
    assert {case.name for case in used.cases} == {case.name for part in ("train", "val") for case in cases[part]}
    folds = official_folds(used, {case.name: frozenset({"cell"}) for case in used.cases}, None)
    assert folds is not None
    names = {name for fold in folds.folds for name in (*fold.training, *fold.validation)}
    assert names == {case.name for case in cases["train"]}


def test_another_network_takes_the_place_of_the_planned_one(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=3, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    given = [
        "network.name=fpn",
        "network.encoder=resnet18",
        "network.encoder_options.width=0.125",
        "network.norm=group",
    ]
    whole = plan(root, output=tmp_path / "plan.yaml", minutes=1, overrides=given)
    made = whole.config.network
    assert (made.name, made.encoder) == ("fpn", "resnet18")
    assert "network   3D fpn on resnet18, " in summary(whole)
    assert not {"widths", "strides", "kernel_sizes", "deep_supervision"} & made.given().keys()


@pytest.mark.parametrize(
    "given",
    [["network.encoder=resnet18", "network.encoder_options.width=0.125"], ["network.name=segresnet"]],
)
def test_of_the_planned_unet_nothing_is_left_that_another_network_lacks_or_means_otherwise(
    given: list[str], tiny_msd: Callable[..., Path], tmp_path: Path
) -> None:
    root = tiny_msd(cases=3, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    made = plan(root, output=tmp_path / "plan.yaml", minutes=1, overrides=given).config.network
    assert made.given().keys() == {"spatial_dims", *(one.split("=")[0].split(".")[1] for one in given)} - {"name"}


def test_what_is_wrong_with_a_given_key_is_said_of_that_key(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=3, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    for given in ("network.encoder=resnet17", "network.strides=[1, 2]", "training.bach_size=2"):
        with pytest.raises(ConfigError) as caught:
            plan(root, output=tmp_path / "plan.yaml", minutes=1, overrides=["network.widths=[4, 8, 16]", given])
        assert [problem.where for problem in caught.value.problems] == [f"--set {given}"]
    assert not list(tmp_path.glob("*plan.yaml*"))


def test_says_which_class_a_fold_lacks(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=10, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    for number in range(1, 10):  # only the first case keeps its lesion
        file = root / "labelsTr" / f"tiny_{number:02d}.nii.gz"
        label = nib.load(file)
        nib.save(nib.Nifti1Image((np.asarray(label.dataobj) > 0).astype(np.uint8), label.affine), file)
    plan(root, output=tmp_path / "plan.yaml", minutes=1)
    assert "trains without the class 'lesion': only 1 patient has it" in (tmp_path / "plan.yaml").read_text()


def test_visits_of_a_patient_are_seen(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=6, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    text = (root / "dataset.json").read_text()
    for number in range(6):
        new = f"sub-{number // 2:02d}_ses-{number % 2}"
        text = text.replace(f"tiny_{number:02d}", new)
        for folder in ("imagesTr", "labelsTr"):
            (root / folder / f"tiny_{number:02d}.nii.gz").rename(root / folder / f"{new}.nii.gz")
    (root / "dataset.json").write_text(text)
    made = plan(root, output=tmp_path / "plan.yaml", minutes=1)
    assert made.config.data.patient_pattern == "^sub-[A-Za-z0-9]+"
    assert made.config.data.folds == 2
    assert made.folds is not None
    for fold in made.folds.folds:
        assert not {case[:6] for case in fold.training} & {case[:6] for case in fold.validation}


def test_takes_the_table_of_patients_that_lies_with_the_data(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    root = tiny_msd(cases=6, shape=(16, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    (root / "patients.csv").write_text("case,patient\n" + "".join(f"tiny_{n:02d},p{n // 2}\n" for n in range(6)))
    made = plan(root, output=tmp_path / "plan.yaml", minutes=1)
    assert made.config.data.patient_table == str(root / "patients.csv")
    assert made.folds is not None
    assert set(made.folds.patients.values()) == {"p0", "p1", "p2"}
    assert "patients.csv lies with the data: 3 patients" in (tmp_path / "plan.yaml").read_text()
    given = plan(root, output=tmp_path / "given.yaml", minutes=1, overrides=["data.patient_table=null"])
    assert given.config.data.patient_table is None
    assert given.folds is not None
    assert not given.folds.patients
    (root / "patients.csv").write_text("case,institution\ntiny_00,CS\n")
    other = plan(root, output=tmp_path / "other.yaml", minutes=1)
    assert other.config.data.patient_table is None
    assert "not taken: it has the columns case, institution" in (tmp_path / "other.yaml").read_text()


@pytest.mark.parametrize("memory_gib", [0.71, 60.0])
def test_a_gpu_with_less_room_than_it_says(tiny_msd, tmp_path: Path, monkeypatch, memory_gib: float) -> None:
    """Whether the plan was limited by the memory, or the GPU is full of something else."""
    root, sizes = tiny_msd(cases=4), []

    def full(config: Any, facts: Any, **options: Any) -> Any:
        sizes.append(math.prod(config.training.patch_size) * config.training.batch_size)
        if len(sizes) < 3:
            raise OutOfMemory("CUDA out of memory", "end what else uses the GPU")
        return measure_step(config, facts, **options)

    monkeypatch.setattr(planning, "measure_step", full)
    made = plan(root, output=tmp_path / "plan.yaml", memory_gib=memory_gib)
    assert sizes[0] > sizes[2], sizes
    assert math.prod(made.config.training.patch_size) * made.config.training.batch_size == sizes[2]
    sizes.clear()
    monkeypatch.setattr(fitting, "ATTEMPTS", 2)
    with pytest.raises(OutOfMemory, match="end what else"):
        plan(root, output=tmp_path / "other.yaml", memory_gib=memory_gib)
    assert not (tmp_path / "other.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_as_nnunet_lays_them_out_plan_train_and_predict(tmp_path: Path, channels: int) -> None:
    """Nothing is edited between the plan and the masks."""
    random = np.random.default_rng(0)
    root = tmp_path / "cells"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        rows, columns = np.indices((48, 40))
        label = ((rows - random.integers(15, 30)) ** 2 + (columns - 20) ** 2 < 80).astype(np.uint8)
        image = (60 + 120 * label[..., None] + random.integers(0, 30, (48, 40, channels))).astype(np.uint8)
        folder = "imagesTr" if number < 5 else "imagesTs"
        Pillow.fromarray(image.squeeze()).save(root / folder / f"cell_{number}_0000.png")
        if number < 5:
            Pillow.fromarray(label).save(root / "labelsTr" / f"cell_{number}.png")
    names = {str(n): name for n, name in enumerate(["red", "green", "blue"][:channels])}
    description = {"channel_names": names, "labels": {"background": 0, "cell": 1}, "numTraining": 5}
    (root / "dataset.json").write_text(json.dumps(description | {"file_ending": ".png"}))
    made = plan(root, output=tmp_path / "cells.yaml", minutes=0.05)
    assert made.config.network.spatial_dims == 2
    assert made.config.training.patch_size == [48, 40]
    run = train(made.config, run=tmp_path / "run")
    (mask,) = predict(run, input=root / "imagesTs", output=tmp_path / "masks")
    assert np.asarray(Pillow.open(mask)).shape == (48, 40)
    assert json.loads((run / "eval" / "metrics.json").read_text())["cases"] == 1


@pytest.mark.slow
def test_hippocampus(test_data: Path, tmp_path: Path) -> None:
    """The rules find the recipe that was found by hand, on any CPU."""
    made = plan(test_data / "Task04_Hippocampus", output=tmp_path / "plan.yaml", minutes=10).config
    byhand = load_config("hippocampus")
    assert made.training.patch_size == byhand.training.patch_size
    assert made.augmentation == byhand.augmentation
    assert made.preprocessing == byhand.preprocessing
    assert made.training.foreground_probability == byhand.training.foreground_probability
    if not torch.cuda.is_available():
        assert made.network.widths == byhand.network.widths
        assert made.training.optimizer == byhand.training.optimizer
        assert made.training.batch_size == byhand.training.batch_size
        assert made.training.weight_average == byhand.training.weight_average
