"""The dense CRF as a step between logits and mask: better masks on noisy logits, the right guide, box and scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor
from torch.nn import functional as F

from medseg.core.labels import Labels
from medseg.inference.crf import CRFParameters, dense_crf, published_parameters
from medseg.inference.postprocess import LogitsToMaskd
from medseg.inference.refine import DenseCRFd, guide_image, voxel_edges

CLASSES = Labels(classes={"background": 0, "organ": 1, "lesion": 2})
REGIONS = Labels(
    classes={"background": 0, "organ": 1, "lesion": 2},
    regions={"whole": (1, 2), "lesion": (2,)},
    region_values=(1, 2),
)
NEAR = CRFParameters(5, 3.0, 2.0, 10.0, 8.0, 20.0)
SIZES = {2: (40, 44), 3: (16, 18, 14)}


def scene(spatial_dims: int, labels: Labels, noise: float = 2.0) -> tuple[dict[str, Any], Tensor]:
    """A case of nested boxes in two channels, z-scored, with logits that are right on average; its truth."""
    draw = torch.Generator().manual_seed(spatial_dims)
    size = SIZES[spatial_dims]
    truth = torch.zeros(size, dtype=torch.long)
    truth[tuple(slice(n // 5, n - n // 5) for n in size)] = 1
    truth[tuple(slice(2 * n // 5, n - 2 * n // 5) for n in size)] = 2
    image = torch.stack([truth * 80.0, 160.0 - truth * 50.0]) + 4 * torch.randn(2, *size, generator=draw)
    image = (image - image.mean()) / image.std()
    if labels.regions:
        ideal = torch.stack([torch.isin(truth, torch.tensor(values)) for values in labels.regions.values()]) * 2.0 - 1
    else:
        ideal = F.one_hot(truth, 3).movedim(-1, 0) * 2.0
    logits = ideal + noise * torch.randn(ideal.shape, generator=draw)
    affine = torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64))
    case = {"image": MetaTensor(image, affine=affine), "pred": logits, "native_affine": affine, "native_shape": size}
    return case, truth


def mean_dice(case: dict[str, Any], truth: Tensor, labels: Labels) -> float:
    mask = LogitsToMaskd(labels=labels)(case)["pred"][0]
    dice = []
    for values in labels.targets.values():
        found, true = (np.isin(np.asarray(where), values) for where in (mask, truth))
        dice.append(2 * (found & true).sum() / (found.sum() + true.sum()))
    return float(np.mean(dice))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_noisy_logits_get_better(labels: Labels, spatial_dims: int) -> None:
    case, truth = scene(spatial_dims, labels)
    before = case["pred"].clone()
    refined = DenseCRFd(labels=labels, parameters=NEAR, margin=20)(case)
    assert mean_dice(case, truth, labels) < 0.75
    assert mean_dice(refined, truth, labels) > 0.95
    assert torch.equal(case["pred"], before)
    assert refined["pred"].isfinite().all()


def test_it_is_the_dense_crf_of_the_guide() -> None:
    """Classes: log-probabilities; regions: log odds; lengths in voxels of the finest axis."""
    for labels in (CLASSES, REGIONS):
        case, _ = scene(3, labels, noise=1.0)
        refined = DenseCRFd(labels=labels, parameters=NEAR)(case)["pred"]
        guide = guide_image(case["image"], "stretched", (slice(None),))
        regions = bool(labels.regions)
        expected = dense_crf(case["pred"], guide, NEAR, regions=regions, spacing=(1.0, 4.0, 2.0))
        torch.testing.assert_close(refined.sigmoid() if regions else refined.exp(), expected, atol=2e-6, rtol=1e-4)
    coarse = case | {"image": MetaTensor(case["image"].as_tensor(), affine=7 * case["native_affine"])}
    torch.testing.assert_close(DenseCRFd(labels=REGIONS, parameters=NEAR)(coarse)["pred"], refined)


def test_the_affine_of_the_logits_survives() -> None:
    case, _ = scene(3, CLASSES)
    other = torch.diag(torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    crf = DenseCRFd(labels=CLASSES, parameters=NEAR)
    refined = crf(case | {"pred": MetaTensor(case["pred"], affine=other)})["pred"]
    assert torch.equal(refined.affine, other)
    in_place = replace(NEAR, gaussian_std=(2 / 3, 2.0, 2.0), bilateral_std=(8 / 3, 8.0, 8.0))
    guide = guide_image(case["image"], "stretched", (slice(None),))
    torch.testing.assert_close(
        refined.as_tensor().exp(), dense_crf(case["pred"], guide, in_place), atol=2e-6, rtol=1e-4
    )


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_outside_the_box_nothing_changes(labels: Labels) -> None:
    case, _ = scene(3, labels, noise=0.0)  # the foreground is voxels 3 to 12, 3 to 14, 2 to 11; edges 1, 4, 2
    refined = DenseCRFd(labels=labels, parameters=NEAR, margin=2)(case)["pred"]
    same = torch.isclose(refined, case["pred"] if labels.regions else case["pred"].log_softmax(0)).all(0)
    changed = ~same
    assert changed[1:15, 2:16, 1:13].float().mean() > 0.9
    changed[1:15, 2:16, 1:13] = False
    assert not changed.any()


def test_nothing_found_stays_nothing() -> None:
    case, _ = scene(3, REGIONS)
    case["pred"] = -torch.rand(case["pred"].shape) - 0.1
    assert torch.equal(DenseCRFd(labels=REGIONS, parameters=NEAR, margin=3)(case)["pred"], case["pred"])


def test_labels_without_a_background_have_no_box() -> None:
    labels = Labels(classes={"road": 7, "car": 26, "sky": 23})
    case, _ = scene(2, CLASSES)
    whole, boxed = (DenseCRFd(labels=labels, parameters=NEAR, margin=margin)(case)["pred"] for margin in (None, 0))
    assert torch.equal(whole, boxed)


def test_the_guide_undoes_units_and_outliers() -> None:
    image = torch.rand(2, 50, 60, generator=torch.Generator().manual_seed(0))
    every = (slice(None), slice(None), slice(None))
    guide = guide_image(image, "stretched", every)
    torch.testing.assert_close(guide, (255 * (image * 1.01 - 0.005)).clamp(0, 255), atol=3, rtol=0)
    torch.testing.assert_close(guide_image(1e5 * image - 7, "stretched", every), guide, atol=0.1, rtol=0)
    image[0, 3, 4] = 1e6
    torch.testing.assert_close(guide_image(image, "stretched", every)[:, 10:], guide[:, 10:], atol=1, rtol=0)
    box = (slice(None), slice(5, 9), slice(7, 30))
    assert torch.equal(guide_image(image, "stretched", box), guide_image(image, "stretched", every)[box])
    assert not guide_image(torch.ones(1, 4, 4), "stretched", every).any()


def test_the_picture_is_what_the_file_holds() -> None:
    from medseg.data.training.transforms import Normalized

    picture = torch.randint(0, 256, (3, 12, 13), generator=torch.Generator().manual_seed(0)).float()
    every = (slice(None), slice(None), slice(None))
    for mode in ("zscore", "none"):
        image = Normalized(["image"], mode)({"image": MetaTensor(picture)})["image"]
        torch.testing.assert_close(guide_image(image, "picture", every), picture, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="guide 'rgb' is unknown; known: stretched, picture"):
        DenseCRFd(labels=CLASSES, parameters=NEAR, guide="rgb")


def test_edges_of_voxels() -> None:
    oblique = np.diag([0.8, 0.8, 5.0, 1.0])
    turn = np.array([[0.6, -0.8, 0, 3], [0.8, 0.6, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]])
    assert voxel_edges(turn @ oblique, 3) == pytest.approx((1, 1, 6.25))
    assert voxel_edges(oblique, 2) == (1, 1)
    assert voxel_edges(np.diag([2.0, 1.0, 1.0]), 2) == (2, 1)


@pytest.mark.parametrize("name", ["deeplabv2", "pydensecrf"])
def test_published_parameters_on_a_picture(name: str) -> None:
    case, truth = scene(2, CLASSES, noise=2.0)
    refined = DenseCRFd(labels=CLASSES, parameters=published_parameters(name))(case)
    assert mean_dice(refined, truth, CLASSES) > mean_dice(case, truth, CLASSES) + 0.1
