"""The mean of logits, on one grid and on several."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from medseg.core.labels import Labels
from medseg.inference.ensemble import EnsembleInferer
from medseg.inference.postprocess import mean_to_native, to_native

LABELS = Labels({"background": 0, "organ": 1, "lesion": 3})
REGIONS = Labels({"background": 0, "a": 1, "b": 2}, {"whole": (1, 2), "core": (2,)}, (1, 2))


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.factor).to(torch.bfloat16)


def test_is_the_mean_and_leaves_the_members_logits_alone() -> None:
    image = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    mean = EnsembleInferer([SimpleInferer()] * 3)(image, nn.ModuleList([Scaled(1), Scaled(2), Scaled(6)]))
    assert mean.dtype == torch.float32
    assert torch.equal(mean, image * 3)
    with pytest.raises(ValueError, match="2 networks for 3 inferers"):
        EnsembleInferer([SimpleInferer()] * 3)(image, nn.ModuleList([Scaled(1), Scaled(2)]))


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
@pytest.mark.parametrize("memory_mib", [512, 0.01])
def test_members_on_one_grid_are_the_mean_of_their_logits(labels: Labels, memory_mib: float) -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(len(labels.channels), 9, 8, 7, generator=generator) for _ in range(2))
    affine = torch.diag(torch.tensor([1.5, 2.0, 1.0, 1.0]))
    native = torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0]))
    expected = to_native((one + other) / 2, affine, native, (12, 14, 6), labels)
    found = mean_to_native([(one, affine), (other, affine)], native, (12, 14, 6), labels, memory_mib)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_members_on_different_grids_meet_on_the_files() -> None:
    """A flipped grid and one of half the spacing hold the same smooth field: their mean is the field."""
    field = torch.linspace(-3, 3, 12)[:, None, None].expand(12, 6, 6)
    coarse = torch.stack([-field, field])
    flipped = coarse.flip(1)
    turned = torch.eye(4)
    turned[0, 0], turned[0, 3] = -1, 11
    mask = mean_to_native(
        [(coarse, torch.eye(4)), (flipped, turned)], torch.eye(4), (12, 6, 6), Labels({"b": 0, "x": 1})
    )
    assert torch.equal(mask, (field > 0).to(torch.uint8))


def test_outside_a_grid_the_others_count_and_outside_all_it_is_background() -> None:
    sure, opposite = torch.tensor([-1.0, 1.0]), torch.tensor([5.0, -5.0])
    whole = sure[:, None, None, None].expand(2, 8, 4, 4)
    half = opposite[:, None, None, None].expand(2, 4, 4, 4)
    mask = mean_to_native(
        [(whole, torch.eye(4)), (half, torch.eye(4))], torch.eye(4), (10, 4, 4), Labels({"b": 0, "x": 1})
    )
    assert (mask[:4] == 0).all()
    assert (mask[4:8] == 1).all()
    assert (mask[8:] == 0).all()
