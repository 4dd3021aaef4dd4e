"""Dice + cross-entropy against MONAI, by hand, and blind to what is ignored."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss

from medseg.losses.auxiliary import AuxiliaryHeads
from medseg.losses.deep_supervision import DeepSupervision
from medseg.losses.dice_ce import DiceCrossEntropy
from medseg.losses.target import present, shrink


def sample(classes: int, *size: int, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *size, generator=generator)
    return logits, torch.randint(0, classes, (batch, 1, *size), generator=generator)


@pytest.mark.parametrize("size", [(6, 7), (5, 4, 3)])
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_classes_equal_monai(size: tuple[int, ...], batch_dice: bool, channels_last: bool) -> None:
    logits, target = sample(4, *size)
    if channels_last:
        logits = logits.movedim(1, -1).contiguous().movedim(-1, 1)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = DiceCrossEntropy(dice_weight=0.7, cross_entropy_weight=1.3, batch_dice=batch_dice)(ours, target)
    oracle = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=batch_dice,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
        lambda_dice=0.7,
        lambda_ce=1.3,
    )(theirs, target)
    torch.testing.assert_close(loss, oracle)
    loss.backward()
    oracle.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_regions_equal_monai(batch_dice: bool) -> None:
    logits, _ = sample(3, 6, 5, 4)
    target = (torch.rand(2, 3, 6, 5, 4, generator=torch.Generator().manual_seed(1)) > 0.6).float()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = DiceCrossEntropy(batch_dice=batch_dice, regions=True)(ours, target)
    dice = DiceLoss(sigmoid=True, batch=batch_dice, smooth_nr=1e-5, smooth_dr=1e-5)(theirs, target)
    oracle = dice + torch.nn.functional.binary_cross_entropy_with_logits(theirs, target)
    torch.testing.assert_close(loss, oracle)
    loss.backward()
    oracle.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_by_hand() -> None:
    """Two voxels, two classes, even odds: p = 1/2 everywhere, one voxel is foreground."""
    loss = DiceCrossEntropy()(torch.zeros(1, 2, 1, 2), torch.tensor([[[[0, 1]]]]))
    assert loss.item() == pytest.approx(math.log(2) + 1 - (2 * 0.5) / (1 + 1), abs=1e-5)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("batch_dice", [True, False])
def test_the_ignored_half_changes_nothing(regions: bool, batch_dice: bool) -> None:
    loss = DiceCrossEntropy(regions=regions, batch_dice=batch_dice)
    logits, target = sample(3, 8, 6)
    if regions:
        target = (target == torch.arange(3).view(1, 3, 1, 1)).float()
    cropped = loss(logits[:, :, :4], target[:, :, :4])
    half = target.clone()
    half[:, :, 4:] = -1 if regions else -100
    logits.requires_grad_()
    whole = loss(logits, half)
    torch.testing.assert_close(whole, cropped)
    whole.backward()
    assert logits.grad[:, :, 4:].abs().max() == 0
    assert logits.grad[:, :, :4].abs().max() > 0
    with torch.no_grad():
        other = logits.detach().clone()
        other[:, :, 4:] = 17
        torch.testing.assert_close(loss(other, half), cropped)


@pytest.mark.parametrize("regions", [False, True])
def test_nothing_but_ignored_voxels_is_finite(regions: bool) -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    target = torch.full((1, 3, 4, 4), -1.0) if regions else torch.full((1, 1, 4, 4), -100)
    loss = DiceCrossEntropy(regions=regions)(logits, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("regions", [False, True])
def test_float32_inside_autocast(regions: bool) -> None:
    logits, target = sample(3, 16, 16)
    if regions:
        target = (target == torch.arange(3).view(1, 3, 1, 1)).float()
    loss = DiceCrossEntropy(regions=regions)
    low = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(low, target)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, loss(low.float(), target))


@pytest.mark.parametrize("regions", [False, True])
def test_gradient_by_finite_differences(regions: bool) -> None:
    logits, target = sample(3, 3, 4)
    if regions:
        target = (target == torch.arange(3).view(1, 3, 1, 1)).float()
        target[0, :, 0] = -1
    else:
        target[0, :, 0] = -100
    logits.requires_grad_()
    loss = DiceCrossEntropy(regions=regions)
    loss(logits, target).backward()
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5))
    step = 1e-2
    with torch.no_grad():
        slope = (loss(logits + step * direction, target) - loss(logits - step * direction, target)) / (2 * step)
    assert slope.item() == pytest.approx((logits.grad * direction).sum().item(), rel=2e-3)


def test_deep_supervision_weighs_and_shrinks() -> None:
    loss = DiceCrossEntropy()
    logits, target = sample(3, 8, 12)
    coarse, _ = sample(3, 4, 6, seed=1)
    coarsest, _ = sample(3, 2, 3, seed=2)
    total = DeepSupervision(loss)([logits, coarse, coarsest], target)
    parts = loss(logits, target), loss(coarse, target[..., ::2, ::2]), loss(coarsest, target[..., ::4, ::4])
    torch.testing.assert_close(total, (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75)
    torch.testing.assert_close(DeepSupervision(loss)(logits, target), parts[0])


def test_shrink_takes_voxels_for_any_size() -> None:
    target = torch.arange(7 * 9).view(1, 1, 7, 9)
    assert torch.equal(shrink(target, (4, 3))[0, 0], target[0, 0][[0, 1, 3, 5]][:, ::3])
    assert shrink(target, (7, 9)) is target


def test_auxiliary_heads_add_weighted_losses() -> None:
    torch.manual_seed(0)
    loss = DiceCrossEntropy()
    main, other = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    target = torch.randint(0, 3, (2, 1, 8, 8))
    heads = AuxiliaryHeads(loss, weight=0.4)
    expected = loss(main, target) + 0.4 * loss(other, target[..., ::2, ::2])
    assert torch.allclose(heads([main, other], target), expected)
    assert torch.equal(heads(main, target), loss(main, target))


def test_presence_is_of_what_the_sample_holds_and_ignores_the_ignored() -> None:
    target = torch.tensor([[[[0, 1], [1, -100]]], [[[2, 2], [-100, -100]]]])
    assert present(target, 3).tolist() == [[1, 1, 0], [0, 0, 1]]
    regions = torch.tensor([[[[0.0, 1.0]], [[-1.0, 0.0]]]])  # (1, 2, 1, 2)
    assert present(regions, 2).tolist() == [[1, 0]]
    heads = AuxiliaryHeads(DiceCrossEntropy(), presence_weight=0.2)
    main = torch.zeros(2, 3, 2, 2)
    sure, wrong = torch.tensor([[9.0, 9, -9], [-9, -9, 9]]), torch.tensor([[-9.0, -9, 9], [9, 9, -9]])
    plain = heads(main, target)
    assert torch.allclose(heads([main, sure], target), plain, atol=1e-3)
    assert torch.allclose(heads([main, wrong], target), plain + 0.2 * 9, atol=1e-3)


def regions_sample() -> tuple[torch.Tensor, torch.Tensor]:
    logits, _ = sample(3, 6, 5, 4)
    return logits, (torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.3).float()


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("regions", [True, False])
def test_other_overlaps_equal_monai(regions: bool, batch_dice: bool) -> None:
    logits, target = regions_sample() if regions else sample(4, 6, 5, 4)
    shared = {"sigmoid": regions, "softmax": not regions, "to_onehot_y": not regions, "batch": batch_dice}
    shared |= {"include_background": regions}
    options = {"cross_entropy_weight": 0.0, "batch_dice": batch_dice, "regions": regions}
    ours = DiceCrossEntropy(overlap="tversky", missed_weight=0.8, **options)(logits, target)
    theirs = TverskyLoss(alpha=0.2, beta=0.8, smooth_nr=1e-5, smooth_dr=1e-5, **shared)(logits, target)
    torch.testing.assert_close(ours, theirs)
    ours = DiceCrossEntropy(overlap="generalised_dice", **options)(logits, target)
    theirs = GeneralizedDiceLoss(smooth_nr=1e-9, smooth_dr=1e-9, **shared)(logits, target)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_tversky_of_one_half_is_the_dice_and_missing_costs_more_with_more_weight() -> None:
    logits, target = sample(3, 8, 8)
    half = DiceCrossEntropy(overlap="tversky", missed_weight=0.5)(logits, target)
    torch.testing.assert_close(half, DiceCrossEntropy()(logits, target), atol=1e-5, rtol=1e-5)
    truth = torch.zeros(1, 1, 8, 8, dtype=torch.long)
    truth[..., :4] = 1
    few = logits.new_zeros(1, 2, 8, 8)
    few[:, 0], few[:, 0, :, :2], few[:, 1, :, :2] = 10, -10, 10  # half of it is missed, nothing invented
    low, high = (DiceCrossEntropy(overlap="tversky", missed_weight=w)(few, truth) for w in (0.3, 0.7))
    assert low < high


@pytest.mark.parametrize("regions", [True, False])
def test_focal_loss_equals_monai(regions: bool) -> None:
    logits, target = regions_sample() if regions else sample(4, 6, 5, 4)
    ours = DiceCrossEntropy(0.0, 0.0, regions=regions, focal_weight=2.0, focal_gamma=1.5)(logits, target)
    theirs = FocalLoss(gamma=1.5, use_softmax=not regions, to_onehot_y=not regions)(logits, target)
    torch.testing.assert_close(ours, 2 * theirs * (1 if regions else 4))  # MONAI's mean is over the classes too


@pytest.mark.parametrize("smoothing", [0.1, 0.4])
def test_label_smoothing_is_that_of_torch(smoothing: float) -> None:
    """Of classes torch's own, ignored voxels included; of regions its formula for 0 and 1 as two classes."""
    logits, target = sample(4, 6, 5, 4)
    target[:, :, :2] = -100
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    entropy = torch.nn.functional.cross_entropy(theirs, target[:, 0], label_smoothing=smoothing)
    with torch.no_grad():
        dice = DiceCrossEntropy(cross_entropy_weight=0.0)(logits, target)
    loss = DiceCrossEntropy(dice_weight=0.0, label_smoothing=smoothing)(ours, target)
    torch.testing.assert_close(loss, entropy)
    loss.backward()
    entropy.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(DiceCrossEntropy(label_smoothing=smoothing)(logits, target), loss + dice)
    logits, regions = regions_sample()
    two = torch.stack([torch.zeros_like(logits), logits], dim=1)
    entropy = torch.nn.functional.cross_entropy(two, regions.long(), label_smoothing=smoothing)
    loss = DiceCrossEntropy(dice_weight=0.0, regions=True, label_smoothing=smoothing)(logits, regions)
    torch.testing.assert_close(loss, entropy)


SMOOTHED = {"label_smoothing": 0.1}
FURTHER = [{"overlap": "tversky"}, {"overlap": "generalised_dice"}, {"focal_weight": 1.0}, SMOOTHED]


@pytest.mark.parametrize("options", FURTHER)
@pytest.mark.parametrize("regions", [True, False])
def test_other_terms_are_blind_to_what_is_ignored(regions: bool, options: dict) -> None:
    logits, target = regions_sample() if regions else sample(4, 6, 5, 4)
    target[:, :, 2:] = -1 if regions else -100
    loss = DiceCrossEntropy(regions=regions, **options)
    changed = logits.clone()
    changed[:, :, 2:] += 3
    torch.testing.assert_close(loss(logits, target), loss(changed, target), rtol=0, atol=0)
    everything = torch.full_like(target, -1 if regions else -100)
    assert torch.isfinite(loss(logits, everything))


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_smooth_forgives_the_empty_mask_of_a_healthy_image(regions: bool, batch_dice: bool) -> None:
    """(2 i + e) / (p + t + e), with e a share of the voxels summed over."""
    probability = torch.rand(2, 1, 6, 5, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    truth = torch.zeros(2, 1, 6, 5)
    truth[0, 0, :3] = 1
    logit = probability.logit()
    logits = logit if regions else torch.cat([torch.zeros_like(logit), logit], dim=1)
    options = {"cross_entropy_weight": 0.0, "batch_dice": batch_dice, "smooth": 0.1}
    loss = DiceCrossEntropy(regions=regions, **options)(logits, truth if regions else truth.long())
    voxels = 60 if batch_dice else 30
    axes = (0, 1, 2, 3) if batch_dice else (1, 2, 3)
    both, sums = (probability * truth).sum(axes), (probability + truth).sum(axes)
    expected = 1 - ((2 * both + 0.1 * voxels) / (sums + 0.1 * voxels)).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    with pytest.raises(ValueError, match="smooth"):
        DiceCrossEntropy(overlap="generalised_dice", smooth=0.1)
