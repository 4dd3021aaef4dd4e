"""Atrous spatial pyramid pooling with image pooling (Chen et al., arXiv 1706.05587)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.networks.blocks.conv_norm_relu import conv_norm_relu
from medseg.networks.blocks.layers import InstanceNorm, make_norm


class ImagePooling(nn.Sequential):
    """Mean over the whole feature (0), 1x1 convolution (1), norm (2), ReLU (3), spread over the feature again.

    See `pooled_norm` and `normalise_pooled` for what norm layers do with a single value per channel.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, *, norm: str = "batch") -> None:
        norm = pooled_norm(norm, out_channels, spatial_dims)
        super().__init__(nn.Identity(), *conv_norm_relu(spatial_dims, in_channels, out_channels, 1, norm=norm))

    def forward(self, x: Tensor) -> Tensor:
        _, conv, norm, relu = self
        size = x.shape[2:]
        pooled = conv(x.mean(tuple(range(2, x.ndim)), keepdim=True))
        pooled = relu(normalise_pooled(norm, pooled))
        return pooled.expand(-1, -1, *size)


def pooled_norm(norm: str, channels: int, spatial_dims: int) -> str:
    """The norm for a single value per channel: none in place of one that looks at each channel alone (it leaves 0)."""
    layer = make_norm(norm, channels, spatial_dims)
    alone = isinstance(layer, InstanceNorm) or (isinstance(layer, nn.GroupNorm) and layer.num_groups == channels)
    return "none" if alone else norm


def normalise_pooled(norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(x)`; with running statistics where batch norm in training has but one value per channel."""
    alone = norm.training and x.numel() == x.shape[1]
    if isinstance(norm, nn.SyncBatchNorm) and torch.distributed.is_available() and torch.distributed.is_initialized():
        alone = False
    if alone and isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    return norm(x)


def rates_at(stride: Sequence[int]) -> tuple[int, ...]:
    """Published dilation rates of ASPP: 6, 12, 18 at a stride of 16, twice as much at 8, half at 32."""
    return tuple(max(rate * 16 // max(stride), 1) for rate in (6, 12, 18))


class ASPP(nn.Module):
    """`(B, in_channels, *spatial)` -> `(B, width, *spatial)`: 1x1, three dilated 3x3 and image pooling, joined by 1x1.

    Parameter names are torchvision's (`convs.N`, `project.N`).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        width: int,
        rates: Sequence[int],
        *,
        separable: bool = False,
        norm: str = "batch",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList([conv_norm_relu(spatial_dims, in_channels, width, 1, norm=norm)])
        for rate in rates:
            self.convs.append(
                conv_norm_relu(spatial_dims, in_channels, width, 3, dilation=rate, separable=separable, norm=norm)
            )
        self.convs.append(ImagePooling(spatial_dims, in_channels, width, norm=norm))
        self.project = conv_norm_relu(spatial_dims, width * len(self.convs), width, 1, norm=norm)
        self.project.append(nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([conv(x) for conv in self.convs], dim=1))
