"""EfficientFCN: the published counts, and the decoder against its formula written position by position."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medseg.networks.efficientfcn import EfficientFCN, HolisticDecoder

SMALL = {
    "encoder": "resnet18",
    "encoder_options": {"width": 0.125},
    "width": 8,
    "wide": 16,
    "codewords": 6,
}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("encoder", "classes", "parameters"),
    [
        ("resnet50", 21, 31_141_973),
        ("resnet50", 19, 31_139_923),
        ("resnet50", 150, 31_274_198),
        ("resnet101", 21, 50_134_101),
    ],
)
def test_parameters_as_published(encoder: str, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(EfficientFCN(2, 3, classes, encoder=encoder)) == parameters


def test_parameters_of_the_decoder_with_600_codewords() -> None:
    with torch.device("meta"):
        network = EfficientFCN(2, 3, 150, codewords=600)
        assert count(network) - count(network.encoder) == 9_238_486


@pytest.mark.parametrize("size", [(3, 4), (2, 3, 2)])
def test_decoder_is_its_formula(size: tuple[int, ...]) -> None:
    """m_fine = n^-1/2 sum_k W_k(m) sum_i softmax_i(A_k)(i) B(i), then joined with the guide."""
    torch.manual_seed(0)
    dims = len(size)
    decoder = HolisticDecoder(dims, (5, 7, 9), width=4, out_channels=6, codewords=3).eval()
    fine, middle, coarse = (
        torch.randn(1, channels, *(length * factor for length in size)) for channels, factor in ((5, 4), (7, 2), (9, 1))
    )
    mode = "bilinear" if dims == 2 else "trilinear"
    with torch.no_grad():
        levels = [fine, decoder.reduce_middle(middle), decoder.reduce_coarse(coarse)]
        at_coarse = torch.cat([F.interpolate(x, coarse.shape[2:], mode=mode, align_corners=True) for x in levels], 1)
        at_fine = torch.cat([F.interpolate(x, fine.shape[2:], mode=mode, align_corners=True) for x in levels], 1)
        values = decoder.base(at_coarse)[0].flatten(1)  # (C, N)
        where = decoder.spread(at_coarse)[0].flatten(1)
        guide = decoder.guide(at_fine)
        shifted = guide + values.mean(1).reshape(1, -1, *(1 for _ in size))
        what = decoder.assemble(shifted)[0].flatten(1)
        codewords = []
        for k in range(3):
            weights = where[k].exp() / where[k].exp().sum()
            codewords.append(sum(weights[i] * values[:, i] for i in range(values.shape[1])))
        columns = [sum(what[k, m] * codewords[k] for k in range(3)) / 3**0.5 for m in range(what.shape[1])]
        assembled = torch.stack(columns, 1).reshape(guide.shape)
        expected = decoder.fuse(torch.cat([assembled, guide], 1))
        torch.testing.assert_close(decoder([fine, middle, coarse]), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(65, 41), (33, 32, 31)])
def test_any_size_and_every_parameter_learns(size: tuple[int, ...]) -> None:
    network = EfficientFCN(len(size), 2, 3, auxiliary=True, norm="instance", **SMALL)
    x = torch.randn(1, 2, *size)
    outputs = network(x)
    assert [tuple(output.shape) for output in outputs] == [(1, 3, *size)] * 2
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert network.eval()(x).shape == (1, 3, *size)


@pytest.mark.parametrize("size", [(40, 33), (16, 17, 18)])
def test_exports(size: tuple[int, ...]) -> None:
    network = EfficientFCN(len(size), 1, 2, **SMALL).eval()
    x = torch.randn(1, 1, *size)
    exported = torch.export.export(network, (x,))
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize("size", [(5, 3), (1, 7), (3, 1, 2)])
def test_images_smaller_than_the_stride(size: tuple[int, ...]) -> None:
    network = EfficientFCN(len(size), 1, 2, **SMALL).eval()
    logits = network(torch.randn(1, 1, *size))
    assert logits.shape == (1, 2, *size)
    assert torch.isfinite(logits).all()
