"""DeepLab v2 sees the image at every scale that it is told, and the largest logit of all wins."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.networks.deeplabv2 import DeepLabV2

SMALL = {"encoder": "resnet18", "encoder_options": {"width": 0.125}, "norm": "instance"}
SIZE = (48, 32)


def network(*scales: float) -> DeepLabV2:
    torch.manual_seed(0)
    made = DeepLabV2(2, 3, 4, scales=scales, **SMALL)
    for conv in made.aspp:
        torch.nn.init.normal_(conv.weight, std=0.3)
    return made.eval()


def scores(made: DeepLabV2, x: Tensor) -> Tensor:
    """The pyramid's logits at the encoder's stride."""
    last = made.encoder(x)[-1]
    return torch.stack([conv(last) for conv in made.aspp]).sum(0)


@pytest.mark.parametrize("scales", [(0.5,), (0.5, 0.75), (1.25, 0.25)])
def test_each_scale_is_seen_at_its_size(scales: tuple[float, ...]) -> None:
    made, x = network(*scales), torch.randn(1, 3, *SIZE)
    seen: list[tuple[int, ...]] = []
    made.encoder.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape[2:])))
    with torch.inference_mode():
        found = made(x)
        assert seen == [SIZE, *(tuple(round(n * scale) for n in SIZE) for scale in scales)]
        whole = scores(made, x)
        expected = whole
        for scale in scales:
            smaller = F.interpolate(x, [round(n * scale) for n in SIZE], mode="bilinear", align_corners=False)
            there = F.interpolate(scores(made, smaller), whole.shape[2:], mode="bilinear", align_corners=False)
            expected = torch.maximum(expected, there)
        torch.testing.assert_close(found, made.upsample(expected, SIZE))


def test_every_scale_changes_the_logits_and_is_trained() -> None:
    x = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        results = [network(*scales)(x) for scales in ((), (0.5,), (0.75,), (0.5, 0.75))]
    for number, one in enumerate(results):
        for other in results[:number]:
            assert (one - other).abs().max() > 1e-3
    trained = network(0.5, 0.75).train()(x)
    assert len(trained) == 4, "the largest, then the logits of the image and of each scale"
    assert len({one.shape for one in trained}) == 1
    assert all((one - other).abs().max() > 1e-3 for one, other in pairwise(trained[1:]))
