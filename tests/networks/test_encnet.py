"""EncNet: the published counts, and the encoding layer against the sum of residuals it stands for."""

from __future__ import annotations

import pytest
import torch

from medseg.networks.encnet import EncNet, Encoding

SMALL = {"encoder": "resnet18", "encoder_options": {"width": 0.125, "stem": "7x7"}, "channels": 16, "codes": 4}


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("classes", "parameters"), [(21, 35_894_527), (19, 35_891_961), (150, 36_060_034)])
def test_parameters_as_published(classes: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(EncNet(2, 3, classes, auxiliary=True)) == parameters


def test_parameters_with_lateral_connections() -> None:
    with torch.device("meta"):
        network = EncNet(2, 3, 21, lateral=True)
        assert count(network) - count(network.encoder) == 17_869_450


def naive(layer: Encoding, x: torch.Tensor) -> torch.Tensor:
    """The formula of the paper, with the tensor of all residuals (B, N, K, C)."""
    residuals = x.flatten(2).transpose(1, 2).unsqueeze(2) - layer.codewords
    weights = (layer.scale * residuals.square().sum(3)).softmax(2)
    return (weights.unsqueeze(3) * residuals).sum(1)


@pytest.mark.parametrize("size", [(9, 7), (5, 4, 6)])
def test_encoding_is_the_sum_of_weighted_residuals(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = Encoding(channels=16, codes=6).double()
    single = Encoding(channels=16, codes=6)
    single.load_state_dict(layer.state_dict())
    x = torch.randn(2, 16, *size)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    expected = naive(layer, theirs)
    got = single(ours)
    torch.testing.assert_close(got.double(), expected, atol=1e-4, rtol=1e-5)
    got.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-3, rtol=1e-4)
    for name in ("codewords", "scale"):
        wanted = getattr(layer, name).grad
        torch.testing.assert_close(getattr(single, name).grad.double(), wanted, atol=1e-2, rtol=1e-3)


def test_encoding_never_holds_the_residuals() -> None:
    layer = Encoding(channels=64, codes=32)
    sizes = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    x = torch.randn(1, 64, 8, 8, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(x)
    assert max(sizes) <= x.numel()


def test_encoding_keeps_its_precision_in_autocast() -> None:
    layer = Encoding(channels=16, codes=6)
    x = torch.randn(2, 16, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x), layer(x.float()))
    torch.testing.assert_close(layer(x), naive(layer, x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(33, 41), (17, 16, 19)])
@pytest.mark.parametrize("norm", ["batch", "instance", "group", "none"])
@pytest.mark.parametrize("lateral", [False, True])
def test_training_gives_logits_auxiliary_and_presence(size: tuple[int, ...], norm: str, lateral: bool) -> None:
    network = EncNet(len(size), 2, 3, auxiliary=True, norm=norm, lateral=lateral, **SMALL)
    x = torch.randn(2, 2, *size)
    outputs = network(x)
    assert [tuple(output.shape) for output in outputs] == [(2, 3, *size), (2, 3, *size), (2, 3)]
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert network.eval()(x).shape == (2, 3, *size)


def test_without_branches_training_gives_one_tensor() -> None:
    network = EncNet(2, 1, 2, presence=False, **SMALL)
    assert network(torch.randn(2, 1, 24, 24)).shape == (2, 2, 24, 24)


@pytest.mark.parametrize("size", [(24, 25), (16, 17, 18)])
def test_exports(size: tuple[int, ...]) -> None:
    network = EncNet(len(size), 1, 2, **SMALL).eval()
    x = torch.randn(1, 1, *size)
    exported = torch.export.export(network, (x,))
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize("size", [(5, 3), (1, 7), (3, 1, 2)])
def test_images_smaller_than_the_stride(size: tuple[int, ...]) -> None:
    network = EncNet(len(size), 1, 2, **SMALL).eval()
    logits = network(torch.randn(1, 1, *size))
    assert logits.shape == (1, 2, *size)
    assert torch.isfinite(logits).all()
