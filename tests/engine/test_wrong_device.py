"""All that runs on a GPU, on one that is not there: no tensor is on a wrong device, and one that is would be found."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.core.errors import MedsegError
from medseg.core.labels import Labels
from medseg.data.training.encode import LabelEncoder
from medseg.engine.cohort import ScoreMaskd
from medseg.engine.device import autocast, place
from medseg.inference.postprocess import LogitsToMaskd
from medseg.losses.auxiliary import AuxiliaryHeads
from medseg.losses.combined import CombinedLoss
from medseg.losses.dice_ce import DiceCrossEntropy
from medseg.networks import NETWORKS
from medseg.workflows.composite import composite
from medseg.workflows.evaluate import evaluate
from medseg.workflows.plan import plan
from medseg.workflows.predict import predict
from medseg.workflows.predictor import Predictor
from medseg.workflows.train import train
from tests.data.training.augmenting import NAMES, batch, only
from tests.device_rules import GPU
from tests.networks.test_contract import SIZES, make, outputs
from tests.pictures import of_pairs, write_pairs
from tests.pretended_device import Pretence, pretended_gpu
from tests.tiny import tiny_config
from tests.workflows.test_ensemble import changed

REGIONS = {"data__regions": {"whole": [1, 2], "core": [2]}, "data__region_values": [1, 2]}
CLEANING: dict[str, Any] = {
    "keep_largest_component": ["whole"],
    "minimum_volume_ml": {"core": 0.01},
    "minimum_total_ml": {"core": 0.02},
    "fill_holes": ["whole"],
}
EVERYTHING: dict[str, Any] = {
    **REGIONS,
    **{f"inference__{step}": targets for step, targets in CLEANING.items()},
    "training__max_epochs": 1,
    "training__weight_average": 0.9,
    "training__gradient_clip": 1.0,
    "inference__mirror_axes": [0],
    "inference__scales": [0.75, 1.0],
    "inference__crf": {"parameters": "deeplabv2"},
    "preprocessing__spacing_mm": [1.5, 1.0, 2.0],
    "evaluation__lesions": ["core"],
}
ALL_MAPS = {"probabilities": True, "uncertainty": True}


@pytest.fixture
def gpu() -> Iterator[Pretence]:
    """Of a test that keeps to it."""
    with pretended_gpu() as pretence:
        yield pretence
    assert pretence.refused == []
    assert pretence.computed["convolution"]


@pytest.mark.slow
def test_volumes_of_regions(tiny_msd, tmp_path: Path, gpu: Pretence) -> None:
    """Training, validation, resume, evaluation, prediction; mirrored, scaled, with CRF, maps, every cleaning step."""
    root, run = tiny_msd(cases=4), tmp_path / "run"
    train(tiny_config(root, **EVERYTHING), run=run)
    train(tiny_config(root, **{**EVERYTHING, "training__max_epochs": 2}), run=run)
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert (run / "eval" / "metrics.csv").exists()
    predict(run, input=root / "imagesTs", output=tmp_path / "out", **ALL_MAPS)
    for operator in ("convolution_backward", "_fused_adamw_", "_embedding_bag_forward_only", "lerp_", "isin"):
        assert gpu.computed[operator], f"{operator} was not computed on the GPU"


@pytest.mark.slow
def test_slices_of_volumes(tiny_msd, tmp_path: Path, gpu: Pretence) -> None:
    root = tiny_msd(cases=4)
    slices = {"network__spatial_dims": 2, "data__context": 3, "training__patch_size": [16, 16]}
    run = train(tiny_config(root, **slices, training__max_epochs=1), run=tmp_path / "run")
    predict(run, input=root / "imagesTs", output=tmp_path / "out", **ALL_MAPS)


@pytest.mark.slow
def test_two_stages(tiny_msd, tmp_path: Path, gpu: Pretence) -> None:
    root = tiny_msd(cases=4)
    stages = {"finder__spacing_mm": [2.0, 2.0, 2.0], "finder__patch_size": [8, 8, 8]}
    run = train(tiny_config(root, **stages), run=tmp_path / "run")
    predict([run, run], input=root / "imagesTs", output=tmp_path / "out", **ALL_MAPS)
    assert Predictor.from_run(run)(next((root / "imagesTs").iterdir())).array.shape == (20, 24, 16)


@pytest.mark.slow
def test_pictures_in_float16(tmp_path: Path) -> None:
    """An encoder, bytes scaled on the device, class weights, a confusion matrix, loss scaling, a new background."""
    root, run = write_pairs(tmp_path / "pairs"), tmp_path / "run"
    with pretended_gpu(bfloat16=False) as gpu:
        train(of_pairs(root), run=run)
        predict(run, input=root / "images" / "test", output=tmp_path / "out", **ALL_MAPS)
        composite(run, input=root / "images" / "val", background="white", output=tmp_path / "new", target=["car"])
    assert gpu.refused == []
    for operator in ("_amp_foreach_non_finite_check_and_unscale_", "bincount", "convolution"):
        assert gpu.computed[operator], f"{operator} was not computed on the GPU"


@pytest.mark.slow
def test_members_on_two_grids(crossed: tuple[Path, Path], tmp_path: Path, gpu: Pretence) -> None:
    run, root = crossed
    fine = changed(run / "fold_0", tmp_path / "fine", preprocessing={"spacing_mm": [1.0, 1.0, 1.0]})
    for name, members in {"one": [run], "two": [fine, run / "fold_0", run / "fold_1"]}.items():
        (saved,) = predict(members, input=root / "imagesTs", output=tmp_path / name, **ALL_MAPS)
        scan = next((root / "imagesTs").iterdir())
        assert np.array_equal(Predictor.from_run(members)(scan).array, np.asarray(nib.load(saved).dataobj))


@pytest.mark.slow
def test_a_plan_measures_its_step(tiny_msd, tmp_path: Path, gpu: Pretence) -> None:
    plan(tiny_msd(cases=4, shape=(40, 40, 24)), output=tmp_path / "plan.yaml", minutes=1)
    assert gpu.computed["convolution_backward"]


def test_masks_are_those_of_the_cpu(trained: tuple[Path, Path], tmp_path: Path, gpu: Pretence) -> None:
    """The pretended GPU computes: what it gives is not only on the right device."""
    run, root = trained
    exact = changed(run, tmp_path / "run", training={"precision": "float32"})
    on_gpu = predict(exact, input=root / "imagesTs", output=tmp_path / "gpu")
    on_cpu = predict(
        changed(exact, tmp_path / "cpu", training={"device": "cpu"}), input=root / "imagesTs", output=tmp_path / "cpu"
    )
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert (np.asarray(nib.load(one).dataobj) == np.asarray(nib.load(other).dataobj)).mean() > 0.999


# --- what is put back is found ----------------------------------------------------------------------------------------


@pytest.fixture
def stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed the first trainings on a GPU: a mask stays there where it is cleaned, written and scored."""
    to_mask = LogitsToMaskd.__call__

    def left_behind(self: LogitsToMaskd, data: Mapping) -> dict:
        case = to_mask(self, data)
        return {**case, "pred": case["pred"].to(GPU)}

    monkeypatch.setattr(LogitsToMaskd, "__call__", left_behind)


@pytest.mark.parametrize("cleaned", [True, False])
def test_a_mask_that_stays_on_the_gpu_is_found(
    cleaned: bool, trained: tuple[Path, Path], tmp_path: Path, stays: None
) -> None:
    steps = {"fill_holes": ["organ"]} if cleaned else {}
    run, root = changed(trained[0], tmp_path / "run", inference=steps), trained[1]
    again = partial(evaluate, anew=True)  # the run has masks by these weights already
    for verb in (again, lambda run, **to: predict(run, input=root / "imagesTs", **to)):
        with pretended_gpu() as gpu, pytest.raises(MedsegError, match=r"Use Tensor.cpu\(\)"):
            verb(run, output=tmp_path / "out")
        assert gpu.refused
        assert all(one.startswith("engine/cohort.py") and "to numpy" in one for one in gpu.refused)


def test_a_mask_that_is_scored_on_the_gpu_is_found(tmp_path: Path) -> None:
    labels = Labels({"background": 0, "organ": 1})
    label = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), label)
    score = ScoreMaskd(labels)
    with pretended_gpu() as gpu:
        mask = torch.ones(1, 3, 3, 3, dtype=torch.uint8, device=GPU)
        with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
            score({"case": "one", "label_path": label, "pred": mask})
        assert score({"case": "one", "label_path": label, "pred": mask.cpu()})["scores"]
    assert len(gpu.refused) == 1


@pytest.mark.campaign
def test_wherever_a_move_is_forgotten_it_is_found(tiny_msd, tmp_path: Path) -> None:
    """Each place in turn that brings a tensor to a device, in the training and prediction of `EVERYTHING`."""
    root = tiny_msd(cases=4)

    def everything(name: str, forgotten: str | None = None) -> Pretence:
        run = tmp_path / name
        with pretended_gpu(forgotten=forgotten) as pretence:
            try:
                train(tiny_config(root, **EVERYTHING), run=run)
                predict(run, input=root / "imagesTs", output=run / "out", **ALL_MAPS)
            except Exception:
                assert pretence.refused, f"{forgotten}: another error"
                raise
        shutil.rmtree(run)
        return pretence

    places = list(everything("whole").moves)
    assert len(places) > 20
    assert any(one.startswith("inference/postprocess.py") for one in places)
    missed = []
    for number, forgotten in enumerate(places):
        try:
            found = everything(str(number), forgotten).refused
        except Exception:
            continue
        missed += [] if found else [forgotten]
    # A mask that is put together on the CPU, of slabs that the GPU computed, is slower and the same.
    assert {place.split()[1] for place in missed} <= {"to_native"}


# --- the parts alone --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS.own))
def test_every_network_takes_a_step(name: str, gpu: Pretence) -> None:
    network = place(make(name, 2, deep_supervision=True, auxiliary=True, presence=True), GPU, 2).train()
    with autocast(GPU, torch.bfloat16):
        logits = outputs(network, torch.rand(2, 2, *SIZES[2], device=GPU))
    AuxiliaryHeads(DiceCrossEntropy())(logits, torch.randint(0, 3, (2, 1, *SIZES[2]), device=GPU)).backward()
    for tensor in [*logits, *(one.grad for one in network.parameters() if one.grad is not None)]:
        assert tensor.device == GPU


LOSSES: dict[str, Any] = {
    "dice_ce": DiceCrossEntropy(),
    "every term": CombinedLoss(1, 1, 1, 1, class_weights=[1.0, 2.0, 3.0]),
    "hardest": CombinedLoss(hardest=0.5, class_weights=[1.0, 2.0, 3.0]),
    "hard": CombinedLoss(ohem_threshold=0.7, ohem_minimum=10),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_every_loss(loss: Any) -> None:
    labels = Labels({"background": 0, "one": 1, "two": 2}, ignore_index=255)
    with pretended_gpu() as gpu:
        target = LabelEncoder(labels)(torch.randint(0, 3, (2, 1, 6, 5), device=GPU).to(torch.uint8))
        logits = torch.randn(2, 3, 6, 5, device=GPU, requires_grad=True)
        value = loss(logits, target)
        value.backward()
        assert value.device == GPU
        assert logits.grad is not None
    assert gpu.refused == []


@pytest.mark.parametrize("shape", [(18, 21), (12, 13, 10)])
def test_every_augmentation(shape: tuple[int, ...]) -> None:
    augment = only(*NAMES, flip_axes=(0, 1), bend_voxels=1.0)
    given = batch(shape)
    expected = augment(given)
    with pretended_gpu() as gpu:
        changed_batch = augment({**given, "image": given["image"].to(GPU), "label": given["label"].to(GPU)})
        image, label = (changed_batch[key].cpu() for key in ("image", "label"))
        assert changed_batch["image"].device == changed_batch["label"].device == GPU
    assert gpu.refused == []
    assert image.shape == expected["image"].shape
    assert (label == expected["label"]).float().mean() > 0.999
