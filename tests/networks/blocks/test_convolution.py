"""Convolutions in bfloat16 on a CPU: PyTorch's own gradients are wrong for some maps and slow for some kernels."""

from __future__ import annotations

import pytest
import torch

from medseg.networks.blocks.convolution import convolution, transposed_convolution

SIZES = [(1, 2, 2), (2, 2, 2), (2, 4, 5), (3, 3, 3), (4, 4, 2), (5, 6, 6), (7, 6, 6), (1, 1, 1), (4, 4, 1)]
SIZES_2D = [(1, 1), (4, 1), (1, 4), (2, 2), (2, 5), (4, 4)]


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [*SIZES, *SIZES_2D], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", ["all", "depthwise"])
def test_gradients_are_those_of_float64(kernel: int, size: tuple[int, ...], stride: int, groups: str) -> None:
    for width in (8, 32):
        check_gradients(kernel, size, stride, width, width if groups == "depthwise" else 1)


def check_gradients(kernel: int, size: tuple[int, ...], stride: int, width: int, groups: int) -> None:
    torch.manual_seed(0)
    memory = torch.channels_last_3d if len(size) == 3 else torch.channels_last
    options = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": False}
    conv = convolution(len(size))(width, width, kernel, **options).to(memory_format=memory)
    x = torch.randn(2, width, *size).contiguous(memory_format=memory)
    weight = conv.weight.detach().double().requires_grad_()
    function = torch.conv3d if len(size) == 3 else torch.conv2d
    function(x.double(), weight, None, stride, kernel // 2, 1, groups).square().sum().backward()
    for precision, tolerance in ((torch.bfloat16, 0.06), (torch.float32, 1e-4)):
        conv.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            y = conv(x)
        assert y.dtype == precision
        leave_nan_behind()  # the wrong values are those of memory used before
        y.float().square().sum().backward()
        assert (conv.weight.grad - weight.grad).norm() < tolerance * weight.grad.norm()


def leave_nan_behind() -> None:
    """Freed memory of many sizes, full of NaN."""
    for size in range(8, 21, 2):
        del [torch.full((1 << size,), float("nan")) for _ in range(4)][:]


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


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 1, 1), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("stride", [2, 4])
def test_gradients_of_transposed_convolutions(size: tuple[int, ...], stride: int) -> None:
    torch.manual_seed(0)
    conv = transposed_convolution(len(size))(16, 16, stride, stride=stride, bias=False)
    x = torch.randn(2, 16, *size)
    weight = conv.weight.detach().double().requires_grad_()
    function = torch.conv_transpose3d if len(size) == 3 else torch.conv_transpose2d
    function(x.double(), weight, None, stride).square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    leave_nan_behind()
    y.float().square().sum().backward()
    assert (conv.weight.grad - weight.grad).norm() < 0.06 * weight.grad.norm()
