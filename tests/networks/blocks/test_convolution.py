"""Convolutions in bfloat16 on a CPU: PyTorch's own gradients are wrong for some maps and slow for some kernels."""

from __future__ import annotations

import pytest
import torch

from medseg.networks.blocks.convolution import convolution


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [(1, 2, 2), (2, 2, 2), (2, 4, 5), (3, 3, 3), (4, 4, 2), (5, 6, 6), (7, 6, 6)])
@pytest.mark.parametrize("width", [8, 32])
def test_bfloat16_gradient_is_that_of_float32(kernel: int, size: tuple[int, ...], width: int) -> None:
    torch.manual_seed(0)
    conv = convolution(3)(width, width, kernel, padding=kernel // 2, bias=False).to(
        memory_format=torch.channels_last_3d
    )
    x = torch.randn(2, width, *size).contiguous(memory_format=torch.channels_last_3d)
    conv(x).square().sum().backward()
    expected = conv.weight.grad.clone()
    for _ in range(3):  # the wrong values were those of memory used before
        conv.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x)
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        assert (conv.weight.grad - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_kernels_train_alike_in_every_precision(kernel: int, stride: int) -> None:
    """Strides and kernels above 3 are computed in float32; what goes in and out has autocast's type all the same."""
    torch.manual_seed(0)
    conv = convolution(2)(16, 16, kernel, stride=stride, padding=kernel // 2, groups=16, bias=False)
    x = torch.randn(2, 16, 20, 24)
    conv(x).square().sum().backward()
    expected = conv.weight.grad.clone()
    types = []
    forward = torch.nn.functional.conv2d

    def spy(image: torch.Tensor, *arguments: object) -> torch.Tensor:
        types.append(torch.is_autocast_enabled("cpu"))
        return forward(image, *arguments)

    conv.weight.grad = None
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(torch.nn.functional, "conv2d", spy)
        y = conv(x)
    assert y.dtype == torch.bfloat16
    assert types == [kernel == 3 and stride == 1], "autocast is left where bfloat16 is slow, and only there"
    y.float().square().sum().backward()
    assert (conv.weight.grad - expected).norm() < 0.02 * expected.norm()
    with torch.autocast("cpu", torch.bfloat16):
        assert conv.eval()(x).dtype == torch.bfloat16
