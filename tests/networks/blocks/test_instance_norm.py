"""The channels-last instance norm against PyTorch's, forward and backward, in every type and shape."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medseg.networks.blocks import instance_norm as module
from medseg.networks.blocks.instance_norm import instance_norm
from medseg.networks.blocks.layers import ConvBlock, InstanceNorm, concatenate

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, slope: float | None) -> torch.Tensor:
    y = F.instance_norm(x, weight=weight, bias=bias)
    return y if slope is None else F.leaky_relu(y, slope)


def inputs(shape: tuple[int, ...], mean: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator) * 2 + mean
    weight = torch.randn(shape[1], generator=generator)
    return x.contiguous(memory_format=LAYOUTS[x.ndim]), weight, torch.randn(shape[1], generator=generator)


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (1, 4, 6, 5, 7), (3, 16, 4, 8, 6), (2, 17, 9, 1, 3), (5, 2, 1, 2)])
@pytest.mark.parametrize("slope", [None, 0.01, 0.0])
def test_equals_pytorch_in_float32(shape: tuple[int, ...], slope: float | None) -> None:
    x, weight, bias = (tensor.requires_grad_() for tensor in inputs(shape))
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours = instance_norm(x, weight, bias, negative_slope=slope)
    theirs = reference(x.double(), weight.double(), bias.double(), slope)
    torch.testing.assert_close(ours, theirs.float(), atol=1e-5, rtol=1e-5)
    # The activation's gradient jumps at zero: only there may the two differ.
    grad = grad * (theirs.detach().abs() > 1e-4)
    for got, expected in zip(
        torch.autograd.grad(ours, (x, weight, bias), grad),
        torch.autograd.grad(theirs, (x, weight, bias), grad.double()),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_result_and_gradient_stay_channels_last_without_pytorchs_instance_norm() -> None:
    x, weight, bias = inputs((2, 8, 6, 5, 4))
    x.requires_grad_()
    with torch.profiler.profile() as profile:
        y = instance_norm(x, weight, bias, negative_slope=0.01)
        (grad,) = torch.autograd.grad(y.sum(), x)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert grad.is_contiguous(memory_format=torch.channels_last_3d)
    assert "aten::instance_norm" not in {event.key for event in profile.key_averages()}


def test_bfloat16_has_float32_statistics() -> None:
    """The error is that of rounding the result once to bfloat16, also where the mean is far from zero."""
    x, weight, bias = inputs((2, 4, 12, 10, 8), mean=6.0)
    low = x.bfloat16()
    expected = reference(low.double(), weight.double(), bias.double(), 0.01)
    ours = instance_norm(low, weight, bias, negative_slope=0.01)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), expected, atol=2**-7, rtol=2**-7)


def test_large_samples_are_measured_in_pieces() -> None:
    """A million voxels far from zero: one sum in float32 would be off by 2e-4."""
    x = (torch.randn(1, 2, 96, 96, 112) + 5).contiguous(memory_format=torch.channels_last_3d)
    y = instance_norm(x, torch.ones(2), torch.zeros(2)).double()
    assert (y.mean((2, 3, 4)).abs() < 1e-5).all()
    assert ((y.var((2, 3, 4)) - 1).abs() < 5e-5).all()


def test_uneven_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_VOXELS", 60)
    x, weight, bias = inputs((2, 3, 7, 5, 4), mean=3.0)
    torch.testing.assert_close(instance_norm(x, weight, bias), reference(x, weight, bias, None), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [2, 16, 24, 128, 300])
@pytest.mark.parametrize("voxels", [(16, 16, 40), (1, 3, 7), (1, 1, 2)])
@pytest.mark.parametrize("pieces", [64, 2**15])
def test_rows_of_several_voxels(
    channels: int, voxels: tuple[int, ...], pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every number of channels and voxels, whether or not voxels make whole rows, and rows whole pieces."""
    monkeypatch.setattr(module, "PIECE_VOXELS", pieces)
    monkeypatch.setattr(module, "ROW", 64)
    x, weight, bias = inputs((2, channels, *voxels), mean=3.0)
    ours = instance_norm(x[1:], weight, bias)
    torch.testing.assert_close(ours, reference(x[1:], weight, bias, None), atol=1e-4, rtol=1e-4)


def test_gradient_in_any_layout_and_constant_input() -> None:
    x = torch.full((1, 3, 4, 4), 2.0).contiguous(memory_format=torch.channels_last).requires_grad_()
    bias = torch.tensor([1.0, 2, 3])
    y = instance_norm(x, torch.ones(3), bias)
    torch.testing.assert_close(y, bias.view(1, 3, 1, 1).expand_as(y))
    (grad,) = torch.autograd.grad(y, x, torch.ones(1, 3, 4, 4).expand_as(y))
    assert torch.isfinite(grad).all()


def test_block_fuses_the_activation_and_keeps_names() -> None:
    block = ConvBlock(3, 2, 4)
    assert block.activation is None
    assert isinstance(block.norm, InstanceNorm)
    assert block.norm.negative_slope == 0.01
    assert set(block.norm.state_dict()) == set(torch.nn.InstanceNorm3d(4, affine=True).state_dict())
    x = torch.randn(2, 2, 5, 6, 7)
    expected = F.leaky_relu(F.instance_norm(block.conv(x)), 0.01)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)
    block.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(
        block(x.contiguous(memory_format=torch.channels_last_3d)), expected, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("channels_last", [True, False])
def test_concatenate_gives_contiguous_gradients(channels_last: bool) -> None:
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    a = torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=layout).requires_grad_()
    b = torch.randn(2, 5, 4, 5, 6).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(2, 8, 4, 5, 6).contiguous(memory_format=layout)
    y = concatenate(a, b)
    assert torch.equal(y, torch.cat((a, b), 1))
    grads = torch.autograd.grad(y, (a, b), weight)
    assert torch.equal(torch.cat(grads, 1), weight)
    assert all(grad.is_contiguous(memory_format=layout) for grad in grads)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_equals_cpu(dtype: torch.dtype) -> None:
    x, weight, bias = inputs((2, 8, 6, 5, 4))
    expected = reference(x.to(dtype).float(), weight, bias, 0.01)
    got = instance_norm(x.to("cuda", dtype), weight.cuda(), bias.cuda(), negative_slope=0.01)
    tolerance = 1e-4 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(got.float().cpu(), expected, atol=tolerance, rtol=tolerance)
