"""The terms for natural images against torch, loops and each other; an ignored pixel changes none of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medseg.losses.auxiliary import AuxiliaryHeads
from medseg.losses.combined import CombinedLoss
from medseg.losses.dice import dice_of_present
from medseg.losses.lovasz import lovasz_softmax

WITHOUT = {"dice_weight": 0.0}
TERMS = {
    "cross entropy": {},
    "weighted": {"class_weights": [0.5, 1.0, 2.0, 4.0]},
    "hardest": {"hardest": 0.2},
    "ohem": {"ohem_threshold": 0.4, "ohem_minimum": 5},
    "weighted ohem": {"ohem_threshold": 0.7, "ohem_minimum": 5, "class_weights": [0.5, 1.0, 2.0, 4.0]},
    "focal": {"cross_entropy_weight": 0.0, "focal_weight": 1.0},
    "dice": {"cross_entropy_weight": 0.0, "dice_weight": 1.0},
    "lovasz": {"cross_entropy_weight": 0.0, "lovasz_weight": 1.0},
    "all": {"focal_weight": 0.5, "dice_weight": 0.5, "lovasz_weight": 2.0, "class_weights": [1.0, 3.0, 1.0, 1.0]},
}


def sample(*size: int, classes: int = 4, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(batch, classes, *size, generator=generator)
    return logits, torch.randint(0, classes, (batch, 1, *size), generator=generator)


@pytest.mark.parametrize("size", [(6, 8), (4, 3, 4)])
@pytest.mark.parametrize("term", TERMS)
def test_the_ignored_half_changes_no_loss_and_no_gradient(term: str, size: tuple[int, ...]) -> None:
    logits, target = sample(*size)
    half = size[0] // 2
    target[:, :, half:] = -100
    loss = CombinedLoss(**WITHOUT | TERMS[term])
    whole = logits.clone().requires_grad_()
    one = loss(whole, target)
    one.backward()
    cut = logits[:, :, :half].clone().requires_grad_()
    other = loss(cut, target[:, :, :half])
    other.backward()
    torch.testing.assert_close(one, other)
    assert whole.grad is not None
    torch.testing.assert_close(whole.grad[:, :, :half], cut.grad)
    assert (whole.grad[:, :, half:] == 0).all()
    assert one > 0


@pytest.mark.parametrize("term", TERMS)
def test_nothing_but_ignored_is_no_loss(term: str) -> None:
    logits, target = sample(4, 4)
    logits.requires_grad_()
    loss = CombinedLoss(**WITHOUT | TERMS[term])(logits, torch.full_like(target, -100))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_weighted_cross_entropy_is_torchs() -> None:
    logits, target = sample(5, 6)
    weights = [0.5, 1.0, 2.0, 4.0]
    expected = F.cross_entropy(logits, target[:, 0], weight=torch.tensor(weights))
    torch.testing.assert_close(CombinedLoss(**WITHOUT, class_weights=weights)(logits, target), expected)


def test_the_hardest_pixels() -> None:
    logits, target = sample(5, 6)
    pixels = F.cross_entropy(logits, target[:, 0], reduction="none").flatten().sort(descending=True).values
    loss = CombinedLoss(**WITHOUT, hardest=0.2)(logits, target)
    torch.testing.assert_close(loss, pixels[:12].mean())


@pytest.mark.parametrize("minimum", [1, 40])
def test_ohem_keeps_the_uncertain_and_at_least_so_many(minimum: int) -> None:
    logits, target = sample(5, 6)
    pixels = F.cross_entropy(logits, target[:, 0], reduction="none").flatten().sort(descending=True).values
    uncertain = pixels[pixels >= -math.log(0.15)]
    assert 1 < len(uncertain) < 40, "the two cases must differ"
    expected = uncertain if minimum == 1 else pixels[:40]
    loss = CombinedLoss(**WITHOUT, ohem_threshold=0.15, ohem_minimum=minimum)(logits, target)
    torch.testing.assert_close(loss, expected.mean())


def test_focal_of_exponent_0_is_cross_entropy_and_of_2_cares_less_for_the_easy() -> None:
    logits, target = sample(5, 6)
    options = {"cross_entropy_weight": 0.0, "focal_weight": 1.0}
    entropy = F.cross_entropy(logits, target[:, 0])
    torch.testing.assert_close(CombinedLoss(**WITHOUT, **options, focal_gamma=0.0)(logits, target), entropy)
    probability = logits.softmax(1).gather(1, target)
    expected = (-((1 - probability) ** 2) * probability.log()).mean()
    torch.testing.assert_close(CombinedLoss(**WITHOUT, **options)(logits, target), expected)


def test_dice_leaves_out_classes_that_do_not_occur() -> None:
    logits, target = sample(5, 6)
    target[target == 3] = 0
    probability = logits.softmax(1)
    terms = []
    for k in range(3):
        p, t = probability[:, k].double(), (target[:, 0] == k).double()
        terms.append(1 - 2 * (p * t).sum() / (p.sum() + t.sum()))
    torch.testing.assert_close(dice_of_present(probability, target[:, 0]).double(), torch.stack(terms).mean())


def test_lovasz_is_one_minus_iou_at_certain_predictions() -> None:
    _, target = sample(6, 6)
    predicted = torch.randint(0, 4, target.shape, generator=torch.Generator().manual_seed(1))
    certain = F.one_hot(predicted[:, 0], 4).movedim(-1, 1).float()
    losses = []
    for k in range(4):
        p, t = (predicted == k).numpy(), (target == k).numpy()
        losses.append(1 - np.logical_and(p, t).sum() / np.logical_or(p, t).sum())
    assert lovasz_softmax(certain, target[:, 0]).item() == pytest.approx(np.mean(losses), abs=1e-6)


def test_lovasz_is_the_extension_of_its_paper() -> None:
    """Equation 9 in the words of its definition: sorted errors times the growth of the Jaccard loss, in a loop."""
    logits, target = sample(4, 4, classes=2, batch=1)
    probability = logits.softmax(1)
    losses = []
    for k in range(2):
        truth = (target[0, 0] == k).flatten().tolist()
        errors = [abs(t - p) for t, p in zip(truth, probability[0, k].flatten().tolist(), strict=True)]
        total, before, wrong = 0.0, 0.0, set()
        for i in sorted(range(len(errors)), key=lambda i: -errors[i]):
            wrong.add(i)
            inside = {j for j, t in enumerate(truth) if t}
            jaccard = 1 - len(inside - wrong) / len(inside | wrong)
            total += errors[i] * (jaccard - before)
            before = jaccard
        losses.append(total)
    assert lovasz_softmax(probability, target[:, 0]).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_two_ways_to_choose_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="give one"):
        CombinedLoss(hardest=0.2, ohem_threshold=0.7)


def test_auxiliary_heads_take_it() -> None:
    logits, target = sample(8, 8)
    loss = CombinedLoss(**WITHOUT, class_weights=[1.0, 2.0, 3.0, 4.0])
    small = F.avg_pool2d(logits, 2)
    expected = loss(logits, target) + 0.4 * loss(small, target[:, :, ::2, ::2])
    torch.testing.assert_close(AuxiliaryHeads(loss, weight=0.4)([logits, small], target), expected)
