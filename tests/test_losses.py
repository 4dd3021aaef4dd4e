"""Dice + cross-entropy against MONAI, by hand, and blind to what is ignored."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss

from medseg.losses import AuxiliaryHeads, DeepSupervision, DiceCrossEntropy, present, shrink


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
