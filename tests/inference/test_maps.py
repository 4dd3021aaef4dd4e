"""Maps on the native grid: against formulas that are computed here, from certain to uniform, slab by slab."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import torch
from monai.inferers import SimpleInferer
from scipy.special import expit, softmax
from scipy.stats import entropy as scipy_entropy
from torch import nn

from medseg.core.labels import Labels
from medseg.inference.ensemble import EnsembleInferer
from medseg.inference.maps import LEVELS, GridLogits, map_names, native_maps
from medseg.inference.postprocess import mean_to_native, to_native
from tests.inference.test_postprocess import affine, sitk_image

CLASSES = Labels({"background": 0, "organ": 1, "lesion": 3})
REGIONS = Labels({"background": 0, "a": 1, "b": 2}, {"whole": (1, 2), "core": (2,)}, (1, 2))
STEP = 0.51 / LEVELS  # half a step of the file, and a little float32
SAME = np.eye(4)
TURNED = affine((-1.0, 1.0, 1.0), (8.0, 0.0, 0.0))  # the first of nine voxels is the last


def random_logits(labels: Labels, seed: int = 0, shape: tuple[int, ...] = (9, 8, 7)) -> torch.Tensor:
    return 2 * torch.randn(len(labels.channels), *shape, generator=torch.Generator().manual_seed(seed))


def maps_of(grids: list[GridLogits], labels: Labels, shape: tuple[int, ...] = (9, 8, 7), **options) -> np.ndarray:
    options = {"native_affine": SAME, "probabilities": True, "uncertainty": True} | options
    native_affine = options.pop("native_affine")
    return native_maps(grids, native_affine, shape, labels, **options).numpy() / LEVELS


def with_moments(labels: Labels, *logits: torch.Tensor, grid: np.ndarray = SAME) -> GridLogits:
    """What an ensemble of networks that give these logits hands over."""

    class Gives(nn.Module):
        def __init__(self, given: torch.Tensor) -> None:
            super().__init__()
            self.given = given

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.given[None]

    inferer = EnsembleInferer([SimpleInferer()] * len(logits), moments=True, labels=labels)
    (given,) = inferer(torch.zeros(1, 1, 1), nn.ModuleList([Gives(one) for one in logits]))
    channels = len(labels.channels)
    assert torch.equal(
        given[:channels],
        EnsembleInferer([SimpleInferer()] * len(logits))(
            torch.zeros(1, 1, 1), nn.ModuleList([Gives(one) for one in logits])
        )[0],
    )
    return GridLogits(given[:channels], grid, given[channels:], len(logits))


def chances(logits: torch.Tensor, labels: Labels) -> np.ndarray:
    """Of the targets."""
    return expit(logits.double().numpy()) if labels.regions else softmax(logits.double().numpy(), 0)[1:]


def test_names_say_what_there_is_and_fit_into_file_names() -> None:
    assert map_names(CLASSES) == []
    assert map_names(CLASSES, uncertainty=True) == ["entropy"]
    assert map_names(CLASSES, True, True, 2) == [
        "probability_organ",
        "probability_lesion",
        "entropy",
        "disagreement",
    ]
    odd = Labels({"background": 0, "left/right": 1, "left right": 2, "Left_Right": 3})
    assert map_names(odd, True) == ["probability_left_right", "probability_left_right_", "probability_Left_Right__"]


@pytest.mark.parametrize("labels", [CLASSES, REGIONS])
@pytest.mark.parametrize("memory_mib", [512, 1, 1e-3])
@pytest.mark.parametrize("grid", [SAME, TURNED])
def test_without_resampling_they_are_the_formulas(labels: Labels, memory_mib: float, grid: np.ndarray) -> None:
    logits = random_logits(labels)
    *found, entropy = maps_of([GridLogits(logits, grid)], labels, memory_mib=memory_mib)
    native = logits.flip(1) if grid is TURNED else logits
    expected = chances(native, labels)
    np.testing.assert_allclose(found, expected, atol=STEP)
    if labels.regions:
        formula = np.mean([scipy_entropy([p, 1 - p], base=2, axis=0) for p in expected], 0)
        above = np.stack(found) > 0.5
        mask = np.where(above[1], 2, np.where(above[0], 1, 0))
    else:
        formula = scipy_entropy(softmax(native.double().numpy(), 0), base=3, axis=0)
        mask = np.array(labels.values)[np.stack([1 - sum(found), *found]).argmax(0)]
    np.testing.assert_allclose(entropy, formula, atol=STEP)
    assert np.array_equal(mask, to_native(logits, grid, SAME, (9, 8, 7), labels).numpy())


@pytest.mark.parametrize("labels", [CLASSES, REGIONS])
def test_entropy_is_0_where_certain_and_1_where_all_are_alike(labels: Labels) -> None:
    logits = torch.zeros(len(labels.channels), 2, 3, 3)
    logits[:, 0] = -80
    logits[1, 0] = 80
    (entropy,) = maps_of([GridLogits(logits, SAME)], labels, (2, 3, 3), probabilities=False)
    assert (entropy[0] == 0).all()
    assert (entropy[1] == 1).all()


def test_resampled_they_are_of_the_logits_that_simpleitk_gives() -> None:
    logits, source = random_logits(CLASSES), affine((1.0, 1.25, 1.5), (1.0, -2.0, 0.5))
    native, shape = affine((0.7, 0.9, 1.1), (2.0, -1.0, 1.0)), (10, 9, 7)
    reference = sitk_image(np.zeros(shape, np.float32), native)
    sampled = [
        SimpleITK.GetArrayFromImage(
            SimpleITK.Resample(
                sitk_image(channel, source),
                reference,
                SimpleITK.Transform(),
                SimpleITK.sitkLinear,
                0,
                SimpleITK.sitkFloat64,
            )
        ).T
        for channel in logits.numpy()
    ]
    expected = softmax(np.stack(sampled), 0)[1:]
    whole = maps_of([GridLogits(logits, source)], CLASSES, shape, native_affine=native)
    np.testing.assert_allclose(whole[:2], expected, atol=1e-4)
    mask = to_native(logits, source, native, shape, CLASSES).numpy()
    found = np.stack([1 - whole[0] - whole[1], *whole[:2]])
    clear = np.diff(np.sort(found, 0)[1:], axis=0)[0] > 1e-4
    assert clear.mean() > 0.99
    assert np.array_equal(np.array([0, 1, 3])[found.argmax(0)][clear], mask[clear])
    slabs = maps_of([GridLogits(logits, source)], CLASSES, shape, native_affine=native, memory_mib=1e-3)
    np.testing.assert_allclose(slabs, whole, atol=2 / LEVELS)


@pytest.mark.parametrize("grid", [SAME, affine((1.4, 1.4, 1.4), (-1.0, -1.0, -1.0))])
def test_identical_members_do_not_disagree(grid: np.ndarray) -> None:
    logits = random_logits(CLASSES)
    *_, disagreement = maps_of([with_moments(CLASSES, logits, logits, logits, grid=grid)], CLASSES)
    assert (disagreement == 0).all()


@pytest.mark.parametrize("labels", [CLASSES, REGIONS])
@pytest.mark.parametrize("memory_mib", [512, 1e-3])
def test_disagreement_is_the_largest_deviation_of_a_target(labels: Labels, memory_mib: float) -> None:
    """On one grid and, pooled, on two that share their voxels."""
    members = [random_logits(labels, seed) for seed in range(3)]
    expected = np.std([chances(one, labels) for one in members], axis=0).max(0)
    options = {"memory_mib": memory_mib, "probabilities": False}
    together = [with_moments(labels, *members)]
    apart = [with_moments(labels, *members[:2]), with_moments(labels, members[2].flip(1), grid=TURNED)]
    for grids in (together, apart):
        _, found = maps_of(grids, labels, **options)
        np.testing.assert_allclose(found, expected, atol=2 * STEP)
    opposite = [torch.stack([20 * one, -20 * one]) for one in (torch.ones(9, 8, 7), -torch.ones(9, 8, 7))]
    two = Labels({"background": 0, "organ": 1})
    assert maps_of([with_moments(two, *opposite)], two)[-1] == pytest.approx(0.5, abs=STEP)


def test_members_on_several_grids_have_the_mean_of_the_mask() -> None:
    """Outside all grids everything is 0; where one of two members sees nothing, the other differs from nobody."""
    one, other = random_logits(CLASSES), random_logits(CLASSES, 1, (5, 8, 7))
    grids = [with_moments(CLASSES, one), with_moments(CLASSES, other)]
    found = maps_of(grids, CLASSES, (12, 8, 7))
    mean = one.clone()
    mean[:, :5] = (one[:, :5] + other) / 2
    np.testing.assert_allclose(found[:2, :9], chances(mean, CLASSES), atol=2 * STEP)
    mask = mean_to_native([(one, SAME), (other, SAME)], SAME, (12, 8, 7), CLASSES).numpy()
    stack = np.stack([1 - found[0] - found[1], *found[:2]])
    assert np.array_equal(np.array([0, 1, 3])[stack.argmax(0)], mask)
    assert found[3, :5].max() > 0.1
    assert (found[3, 5:] == 0).all()
    assert (found[:, 9:] == 0).all()
