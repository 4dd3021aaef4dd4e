"""What is ignored reaches no loss and no gradient: from a label map through auxiliary heads and EncNet's presence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.core.labels import Labels
from medseg.data.training.encode import LabelEncoder
from medseg.losses.auxiliary import AuxiliaryHeads
from medseg.losses.combined import CombinedLoss
from medseg.losses.dice_ce import DiceCrossEntropy
from medseg.networks.encnet import EncNet

CLASSES = Labels(classes={"sky": 0, "road": 3, "car": 7}, ignore_index=255, also_ignored=(1, 2), background=None)
REGIONS = Labels(
    classes={"background": 0, "oedema": 1, "core": 2},
    regions={"whole": (1, 2), "core": (2,)},
    region_values=(1, 2),
    ignore_index=255,
    also_ignored=(9,),
)
EVERYTHING = {"focal_weight": 0.5, "dice_weight": 0.5, "lovasz_weight": 2.0, "class_weights": [0.5, 1.0, 2.0]}
LOSSES = {
    "dice_ce": (DiceCrossEntropy(focal_weight=0.5, label_smoothing=0.1), CLASSES),
    "regions": (DiceCrossEntropy(regions=True, label_smoothing=0.1), REGIONS),
    "combined": (CombinedLoss(**EVERYTHING), CLASSES),
    "ohem": (CombinedLoss(dice_weight=0.0, ohem_threshold=0.4, ohem_minimum=5, class_weights=[0.5, 1.0, 2.0]), CLASSES),
    "hardest": (CombinedLoss(dice_weight=0.0, hardest=0.2), CLASSES),
}
SIZE = (16, 12)


def half_ignored(labels: Labels, seed: int) -> Tensor:
    """`(2, 1, 16, 12)`: the upper half is always the same, without the last class; the lower half is ignored, and
    holds other ones of the ignored values for every seed."""
    fixed, changing = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    known = torch.tensor(labels.values[:-1])[torch.randint(0, len(labels.values) - 1, (2, 1, *SIZE), generator=fixed)]
    ignored = torch.tensor(labels.ignored)
    known[:, :, 8:] = ignored[torch.randint(0, len(ignored), (2, 1, 8, 12), generator=changing)]
    return known


def shaken(outputs: Sequence[Tensor], seed: int) -> list[Tensor]:
    """The outputs, with all maps changed at random where the image is ignored: in their lower half."""
    generator = torch.Generator().manual_seed(seed)
    changed = []
    for output in outputs:
        noise = 5 * torch.randn(output.shape, generator=generator)
        if output.ndim > 2:
            noise[:, :, : output.shape[2] // 2] = 0
        changed.append(output + noise if output.ndim > 2 else output)
    return changed


@pytest.mark.parametrize("name", LOSSES)
def test_auxiliary_heads_are_blind_to_the_ignored_half(name: str) -> None:
    loss, labels = LOSSES[name]
    heads, encode = AuxiliaryHeads(loss), LabelEncoder(labels)
    generator = torch.Generator().manual_seed(1)
    shapes = [SIZE, (8, 6), (4, 3), ()]  # the logits, two heads, presence
    outputs = [torch.randn(2, len(labels.channels), *shape, generator=generator) for shape in shapes]
    results = []
    for seed in (2, 3):
        leaves = [output.detach().requires_grad_() for output in shaken(outputs, seed)]
        total = heads(leaves, encode(half_ignored(labels, seed)))
        results.append((total, torch.autograd.grad(total, leaves)))
    (one, gradients), (other, others) = results
    assert torch.equal(one, other)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    for gradient in gradients[:-1]:
        half = gradient.shape[2] // 2
        assert (gradient[:, :, half:] == 0).all()
        assert gradient[:, :, :half].abs().max() > 0
    cut = [output[:, :, : output.shape[2] // 2] if output.ndim > 2 else output for output in outputs]
    torch.testing.assert_close(one, heads(cut, encode(half_ignored(labels, 2)[:, :, :8])))


@pytest.mark.parametrize("name", LOSSES)
def test_encnet_learns_nothing_from_the_ignored_half(name: str) -> None:
    loss, labels = LOSSES[name]
    heads, encode = AuxiliaryHeads(loss, weight=0.4, presence_weight=0.2), LabelEncoder(labels)
    torch.manual_seed(0)
    small = {"encoder": "resnet18", "encoder_options": {"width": 0.125}, "channels": 8, "codes": 4}
    network = EncNet(2, 3, len(labels.channels), auxiliary=True, dropout=0.0, norm="instance", **small)
    outputs = network(torch.randn(2, 3, *SIZE))
    assert [output.ndim for output in outputs] == [4, 4, 2]

    def step(seed: int) -> tuple[Tensor, list[Tensor]]:
        total = heads(shaken(outputs, seed), encode(half_ignored(labels, seed)))
        return total, list(torch.autograd.grad(total, list(network.parameters()), retain_graph=True))

    (one, gradients), (other, others) = step(2), step(3)
    assert torch.equal(one, other)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert network.presence is not None
    assert gradients[[n for n, _ in network.named_parameters()].index("presence.weight")].abs().max() > 0

    label = half_ignored(labels, 2)
    assert not (label == labels.values[-1]).any(), "the last class may hide in the ignored half alone"
    truth = torch.tensor([1.0, 1.0, 0.0] if labels is CLASSES else [1.0, 0.0]).expand(2, -1)
    without = AuxiliaryHeads(loss, weight=0.4, presence_weight=0.0)(outputs, encode(label))
    whole = heads(outputs, encode(label))
    torch.testing.assert_close(whole - without, 0.2 * F.binary_cross_entropy_with_logits(outputs[2], truth))
    label[:, :, 8:] = labels.values[-1]  # once it counts, it is learnt
    assert not torch.equal(heads(outputs, encode(label)), whole)
