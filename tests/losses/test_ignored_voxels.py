"""A property of every loss: its value and gradient are those of the voxels that count, whatever the others hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.losses.auxiliary import AuxiliaryHeads
from medseg.losses.combined import CombinedLoss
from medseg.losses.deep_supervision import DeepSupervision
from medseg.losses.dice_ce import DiceCrossEntropy
from medseg.losses.focal import focused
from medseg.losses.target import IGNORED_CLASS, IGNORED_REGION

CLASSES = 3
WEIGHTS = st.sampled_from([0.0, 0.5, 1.0])
DICE_CE = st.fixed_dictionaries(
    {
        "dice_weight": WEIGHTS,
        "cross_entropy_weight": WEIGHTS,
        "batch_dice": st.booleans(),
        "overlap": st.sampled_from(["dice", "tversky", "generalised_dice"]),
        "smooth": st.sampled_from([0.0, 0.1]),
        "focal_weight": WEIGHTS,
        "focal_gamma": st.sampled_from([0.0, 0.3, 1.0, 2.0]),
        "label_smoothing": st.sampled_from([0.0, 0.2]),
    }
).map(lambda options: options | ({"smooth": 0.0} if options["overlap"] == "generalised_dice" else {}))
COMBINED = st.fixed_dictionaries(
    {
        "cross_entropy_weight": WEIGHTS,
        "focal_weight": WEIGHTS,
        "dice_weight": WEIGHTS,
        "lovasz_weight": WEIGHTS,
        "class_weights": st.sampled_from([None, [0.5, 1.0, 2.0]]),
        "focal_gamma": st.sampled_from([0.0, 0.3, 1.0, 2.0]),
        "hardest": st.sampled_from([None, 0.4]),
    }
)


def drawn(seed: int, regions: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and target of 2 samples in the plane, and where the target is ignored: somewhere, or nowhere."""
    random = torch.Generator().manual_seed(seed)
    ignored = torch.rand(2, 1, 4, 5, generator=random) < (seed % 4) / 4
    logits = 20 * torch.randn(2, CLASSES, 4, 5, generator=random)
    if regions:
        target = torch.randint(0, 2, (2, CLASSES, 4, 5), generator=random).float()
        return logits, target.masked_fill(ignored, IGNORED_REGION), ignored
    return (
        logits,
        torch.randint(0, CLASSES, (2, 1, 4, 5), generator=random).masked_fill(ignored, IGNORED_CLASS),
        ignored,
    )


def value_and_gradient(loss: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    return value.detach(), torch.zeros_like(leaf) if gradient is None else gradient


def check(loss: Any, seed: int, *, regions: bool = False) -> None:
    logits, target, ignored = drawn(seed, regions)
    value, gradient = value_and_gradient(loss, logits, target)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    assert (gradient.masked_select(ignored) == 0).all()
    shaken = torch.where(ignored, 1e4 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)), logits)
    other, its = value_and_gradient(loss, shaken, target)
    assert torch.equal(value, other)
    assert torch.equal(gradient, its)


@settings(max_examples=60, deadline=None)
@given(options=DICE_CE, regions=st.booleans(), seed=st.integers(0, 10**6))
def test_dice_and_cross_entropy(options: dict[str, Any], regions: bool, seed: int) -> None:
    if options["dice_weight"] or options["cross_entropy_weight"] or options["focal_weight"]:
        check(DiceCrossEntropy(regions=regions, **options), seed, regions=regions)


@settings(max_examples=60, deadline=None)
@given(options=COMBINED, seed=st.integers(0, 10**6))
def test_combined(options: dict[str, Any], seed: int) -> None:
    if any(options[name] for name in options if name.endswith("_weight")):
        check(CombinedLoss(**options), seed)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), regions=st.booleans())
def test_further_outputs(seed: int, regions: bool) -> None:
    loss = DiceCrossEntropy(regions=regions)
    check(lambda logits, target: DeepSupervision(loss)([logits, logits], target), seed, regions=regions)
    check(lambda logits, target: AuxiliaryHeads(loss)([logits, logits], target), seed, regions=regions)


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("regions", [True, False])
def test_what_is_ignored_is_as_if_it_were_cut_off(batch_dice: bool, regions: bool) -> None:
    logits, target, _ = drawn(4, regions)
    target[:, :, 2:] = IGNORED_REGION if regions else IGNORED_CLASS
    for loss in (
        DiceCrossEntropy(regions=regions, batch_dice=batch_dice, smooth=0.2, focal_weight=1, label_smoothing=0.1),
        DiceCrossEntropy(regions=regions, batch_dice=batch_dice, overlap="tversky", smooth=0.3),
    ):
        torch.testing.assert_close(loss(logits, target), loss(logits[:, :, :2], target[:, :, :2]))


@pytest.mark.parametrize("regions", [True, False])
def test_of_a_sample_that_is_ignored_as_a_whole_no_presence_is_learnt(regions: bool) -> None:
    """Nobody said that its classes are absent."""
    logits, target, _ = drawn(4, regions)
    target[1] = IGNORED_REGION if regions else IGNORED_CLASS
    presence = torch.randn(2, CLASSES, requires_grad=True)
    heads = AuxiliaryHeads(DiceCrossEntropy(regions=regions))
    (gradient,) = torch.autograd.grad(heads([logits, presence], target), presence)
    assert (gradient[1] == 0).all()
    assert (gradient[0] != 0).all()
    alone = heads([logits, presence], target) - heads.loss(logits, target)
    first = heads([logits[:1], presence[:1]], target[:1]) - heads.loss(logits[:1], target[:1])
    torch.testing.assert_close(alone, first)
    target[0] = target[1]
    (gradient,) = torch.autograd.grad(heads([logits, presence], target), presence)
    assert (gradient == 0).all()


@settings(max_examples=100, deadline=None)
@given(gamma=st.floats(0, 4), entropy=st.floats(0, 200))
def test_focal_loss_has_finite_slopes(gamma: float, entropy: float) -> None:
    """A voxel that is predicted with certainty has none."""
    given_entropy = torch.tensor([entropy, 0.0, 1e-8, 1e-3], requires_grad=True)
    value = focused(given_entropy, gamma)
    (slope,) = torch.autograd.grad(value.sum(), given_entropy)
    assert torch.isfinite(value).all()
    assert torch.isfinite(slope).all()
    probability = torch.exp(-torch.tensor([entropy, 1e-3], dtype=torch.float64))
    exact = (1 - probability) ** gamma * torch.tensor([entropy, 1e-3], dtype=torch.float64)
    torch.testing.assert_close(value[[0, 3]].double(), exact, rtol=1e-3, atol=1e-6)
