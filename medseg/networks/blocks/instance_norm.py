"""Instance norm, with the leaky ReLU that follows it, where it lies in memory: channels last, on a CPU.

PyTorch computes instance norm as a batch norm over `(1, B * C, ...)`. A tensor in `channels_last(_3d)` has to be copied
for that, the result is not `channels_last`, and the convolution after it copies again. But one sample of such a tensor
is a `channels_last` tensor of batch size one, whose *batch* norm is its instance norm, and for that PyTorch has kernels
that read (voxels, channels) in order, in bfloat16 with float32 statistics. So: one sample after the other, small enough
to stay in the cache between normalisation and activation, without a copy. Few channels are seen as
`(voxels / k, channels * k)`, the same memory: 16 numbers in bfloat16 are less than PyTorch takes at once.
"""

from __future__ import annotations

from math import gcd, log2, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# PyTorch's kernel adds squares up one by one in float32: over 10^6 voxels the variance is off by 4e-4, over this many
# by 1e-5. Larger samples are measured in pieces, which are put together by Chan's formula.
PIECE_VOXELS = 2**15
ROW = 256  # numbers in a row of which PyTorch's loops are fast: several vectors

aten = torch.ops.aten


def instance_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5, negative_slope: float | None = None
) -> Tensor:
    """`leaky_relu(weight * (x - mean) / sqrt(variance + eps) + bias)`, moments over each sample's `spatial`.

    Args:
        x: `(B, C, *spatial)`, any floating type and memory format; the result has the same.
        negative_slope: of the leaky ReLU; 0 is ReLU, None is none.
    """
    if _is_channels_last_on_cpu(x):
        slope = 1.0 if negative_slope is None else negative_slope
        return _ChannelsLast.apply(x, weight, bias, eps, slope)
    y = torch.instance_norm(x, weight, bias, None, None, True, 0.0, eps, torch.backends.cudnn.enabled)
    return y if negative_slope is None else F.leaky_relu(y, negative_slope)


def _is_channels_last_on_cpu(x: Tensor) -> bool:
    # A compiler or exporter shall see the one operator, which it knows.
    if x.device.type != "cpu" or x.ndim not in (4, 5) or torch.compiler.is_compiling():
        return False
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return x.shape[1] > 1 and x.is_contiguous(memory_format=layout)


class _ChannelsLast(torch.autograd.Function):
    """Forward and backward of `instance_norm` for one memory format; slope 1 stands for no activation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> Tensor:
        y = torch.empty_like(x)
        means, scales = [], []
        k = _voxels_a_row(x)
        affine = torch.stack((weight, bias)).repeat(1, k)
        for sample, out in zip(x.split(1), y.split(1), strict=True):
            rows = _rows(sample, k)
            mean, variance = _moments(rows, k)
            moments = torch.stack((mean, variance)).repeat(1, k)
            normalised, _, _ = aten.native_batch_norm(rows, *affine, *moments, False, 0.0, eps)
            aten.leaky_relu.out(normalised, slope, out=_rows(out, k))
            means.append(mean)
            scales.append((variance + eps).rsqrt())
        ctx.slope, ctx.eps = slope, eps
        ctx.save_for_backward(x, y, weight, *means, *scales)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight, *moments = ctx.saved_tensors
        means, scales = moments[: len(x)], moments[len(x) :]
        grad_x = torch.empty_like(x)
        grad_weight = torch.zeros_like(weight)
        grad_bias = torch.zeros_like(weight)
        layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        for index, (sample, result) in enumerate(zip(x.split(1), y.split(1), strict=True)):
            part = grad[index : index + 1].contiguous(memory_format=layout)
            if ctx.slope != 1:
                part = aten.leaky_relu_backward(part, result, ctx.slope, True)
            of_x, of_weight, of_bias = aten.native_batch_norm_backward(
                part, sample, weight, None, None, means[index], scales[index], True, ctx.eps, [True, True, True]
            )
            grad_x[index : index + 1] = of_x
            grad_weight += of_weight
            grad_bias += of_bias
        return grad_x, grad_weight, grad_bias, None, None


def _voxels_a_row(x: Tensor) -> int:
    """How many voxels of `(B, C, *spatial)` make a row of up to `ROW` numbers; their number is a multiple of it."""
    return gcd(prod(x.shape[2:]), 2 ** int(log2(max(1, ROW / x.shape[1]))))


def _rows(sample: Tensor, k: int) -> Tensor:
    """The memory of `(1, C, *spatial)`, channels last, as that of `(1, C * k, voxels / k, 1)`."""
    width = sample.shape[1] * k
    return sample.as_strided((1, width, sample.numel() // width, 1), (sample.numel(), 1, width, width))


def _moments(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of every channel, float32 `(C,)`, of rows of k voxels (see `_rows`)."""
    width, length = rows.shape[1:3]
    anchor = torch.zeros(width, dtype=torch.promote_types(rows.dtype, torch.float32))  # asks for float32 results
    size = PIECE_VOXELS // k
    pieces = [aten.batch_norm_update_stats(piece, anchor, anchor, 0.0) for piece in rows.split(size, dim=2)]
    if len(pieces) == k == 1:
        return pieces[0]
    means = torch.stack([mean for mean, _ in pieces]).view(len(pieces) * k, -1)
    variances = torch.stack([variance for _, variance in pieces]).view(len(pieces) * k, -1)
    share = torch.full((len(pieces), k), size / length / k, dtype=means.dtype)
    share[-1] = (1 - size / length * (len(pieces) - 1)) / k
    share = share.view(-1, 1)
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0)
