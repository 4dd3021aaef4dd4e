"""Instance norm, with the leaky ReLU that follows it, where it lies in memory: channels last, on a CPU.

PyTorch computes instance norm as a batch norm over `(1, B * C, ...)`. A tensor in `channels_last(_3d)` has to be copied
for that, the result is not `channels_last`, and the convolution after it copies again. But one sample of such a tensor
is a `channels_last` tensor of batch size one, whose *batch* norm is its instance norm, and for that PyTorch has kernels
that read (voxels, channels) in order, in bfloat16 with float32 statistics. So: one sample after the other, small enough
to stay in the cache between normalisation and activation, without a copy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# PyTorch's kernel adds squares up one by one in float32: over 10^6 voxels the variance is off by 4e-4, over this many
# by 1e-5. Larger samples are measured in pieces, which are put together by Chan's formula.
PIECE_VOXELS = 2**15

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
        for sample, out in zip(x.split(1), y.split(1), strict=True):
            mean, variance = _moments(sample)
            normalised, _, _ = aten.native_batch_norm(sample, weight, bias, mean, variance, False, 0.0, eps)
            aten.leaky_relu.out(normalised, slope, out=out)
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


def _moments(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of every channel, float32 `(C,)`, of `(1, C, *spatial)`."""
    channels, length = sample.shape[1:3]
    anchor = torch.zeros(channels, dtype=torch.promote_types(sample.dtype, torch.float32))  # asks for float32 results
    slices = max(1, PIECE_VOXELS * length * channels // sample.numel())
    pieces = [aten.batch_norm_update_stats(piece, anchor, anchor, 0.0) for piece in sample.split(slices, dim=2)]
    if len(pieces) == 1:
        return pieces[0]
    means = torch.stack([mean for mean, _ in pieces])
    variances = torch.stack([variance for _, variance in pieces])
    share = torch.full((len(pieces), 1), slices / length, dtype=means.dtype)
    share[-1] = 1 - slices / length * (len(pieces) - 1)
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0)
