"""What a loss and a network must not do: learn from what is ignored, diverge, or leave out a scale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from medseg.losses.auxiliary import AuxiliaryHeads
from medseg.losses.combined import CombinedLoss
from medseg.losses.dice_ce import DiceCrossEntropy
from medseg.losses.target import IGNORED_CLASS, IGNORED_REGION
from medseg.networks.deeplabv2 import DeepLabV2
from tests.corpus.situation import Subjects, read, without

CLASSES = 3
SMALL = {"encoder": "resnet18", "encoder_options": {"width": 0.125}, "norm": "instance"}


def drawn(regions: bool = False) -> tuple[Tensor, Tensor]:
    """Logits (2, 3, 8, 6) and a target whose lower half is ignored."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, 8, 6, generator=random)
    target = torch.randint(0, 2, (2, CLASSES if regions else 1, 8, 6), generator=random)
    target[:, :, 4:] = IGNORED_REGION if regions else IGNORED_CLASS
    return logits, target.float() if regions else target


def blind(loss: torch.nn.Module, regions: bool = False) -> Callable[[], None]:
    """Value and gradient are the same whatever is predicted where it is ignored."""

    def compared() -> None:
        logits, target = drawn(regions)
        results = []
        for noise in (0.0, 9.0):
            leaf = logits.clone()
            leaf[:, :, 4:] += noise * torch.randn(2, CLASSES, 4, 6, generator=torch.Generator().manual_seed(1))
            leaf.requires_grad_()
            value = loss(leaf, target)
            value.backward()
            results.append((value.detach(), leaf.grad))
        (one, its), (other, others) = results
        assert one > 0
        assert torch.equal(one, other)
        assert torch.equal(its, others)
        assert not its[:, :, 4:].any()

    return compared


@read(__name__)
def ignored_by_dice_and_cross_entropy(folder: Path) -> Subjects:
    for overlap in ("dice", "tversky", "generalised_dice"):
        yield blind(DiceCrossEntropy(overlap=overlap, smooth=0.0, focal_weight=0.5, label_smoothing=0.1))


@read(__name__)
def ignored_by_losses_of_regions(folder: Path) -> Subjects:
    for batch in (False, True):
        yield blind(DiceCrossEntropy(regions=True, batch_dice=batch, focal_weight=0.5), regions=True)


@read(__name__)
def ignored_by_losses_of_pictures(folder: Path) -> Subjects:
    yield blind(CombinedLoss(dice_weight=0.5, focal_weight=0.5, lovasz_weight=1.0))
    yield blind(CombinedLoss(dice_weight=0.0, hardest=0.3))
    yield blind(CombinedLoss(dice_weight=0.0, ohem_threshold=0.4, ohem_minimum=5))


@read(__name__)
def presence_of_what_is_ignored_is_not_learnt(folder: Path) -> Subjects:
    """EncNet's: of a sample that is ignored as a whole nothing is known; of any other, what its known half shows."""

    def learnt() -> None:
        logits, target = drawn()
        target[1] = IGNORED_CLASS
        presence = torch.zeros(2, CLASSES, requires_grad=True)
        AuxiliaryHeads(DiceCrossEntropy())([logits, presence], target).backward()
        assert presence.grad is not None
        assert presence.grad[0].any()
        assert not presence.grad[1].any()

    yield learnt


def pyramid(*scales: float) -> DeepLabV2:
    torch.manual_seed(0)
    made = DeepLabV2(2, 3, CLASSES, scales=scales, **SMALL)
    for conv in made.aspp:
        torch.nn.init.normal_(conv.weight, std=0.3)
    return made.eval()


def logits_of(*scales: float) -> Tensor:
    picture = torch.randn(1, 3, 48, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return pyramid(*scales)(picture)


@read(__name__)
def a_smaller_scale_changes_the_logits(folder: Path) -> Subjects:
    def seen() -> None:
        assert (logits_of(0.5) - logits_of()).abs().max() > 1e-3

    yield seen


@read(__name__)
def scales_are_told_apart(folder: Path) -> Subjects:
    def seen() -> None:
        assert (logits_of(0.5) - logits_of(0.75)).abs().max() > 1e-3

    yield seen


@read(__name__)
def the_order_of_scales_does_not_matter(folder: Path) -> Subjects:
    def seen() -> None:
        torch.testing.assert_close(logits_of(0.75, 0.5), logits_of(0.5, 0.75))
        assert (logits_of(0.75, 0.5) - logits_of(0.5)).abs().max() > 1e-3

    yield seen


without(__name__, "medseg.networks.deeplabv2.resize", lambda x, _: x)
without(__name__, "medseg.losses.auxiliary.counted", lambda target: torch.ones_like(target[:, :1], dtype=torch.bool))
