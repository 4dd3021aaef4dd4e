"""Weight gradients in bfloat16 on a CPU, where PyTorch's own are wrong for maps smaller than the kernel."""

from __future__ import annotations

import pytest
import torch

from medseg.networks.convolution import convolution


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
