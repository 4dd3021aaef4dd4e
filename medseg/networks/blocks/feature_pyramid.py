"""Feature pyramid (Lin et al., arXiv 1612.03144), and a context of several dilations on its coarsest map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from medseg.networks.blocks.conv_norm_relu import conv_norm_relu, padded_conv


class FeaturePyramid(nn.Module):
    """Features of an encoder -> maps of `width` channels at the same sizes, the finest first.

    A 1x1 lateral convolution each, the coarser map added by nearest neighbour, then (`smoothing`) a 3x3 convolution.

    Args:
        top: in the place of the coarsest lateral.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: Sequence[int],
        width: int = 256,
        *,
        smoothing: bool = True,
        top: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(padded_conv(spatial_dims, count, width, 1, bias=True) for count in channels)
        if top is not None:
            self.laterals[-1] = top
        self.smooths = nn.ModuleList(
            padded_conv(spatial_dims, width, width, 3, bias=True) if smoothing else nn.Identity() for _ in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        maps = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for level in range(len(maps) - 2, -1, -1):
            maps[level] = maps[level] + F.interpolate(maps[level + 1], size=maps[level].shape[2:], mode="nearest")
        return [smooth(x) for smooth, x in zip(self.smooths, maps, strict=True)]


class DilatedContext(nn.Module):
    """The sum of parallel 3x3 convolutions of several dilations, norm, ReLU: a small pyramid on the coarsest map."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, dilations: Sequence[int], norm: str
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            conv_norm_relu(spatial_dims, in_channels, out_channels, 3, norm=norm, dilation=dilation)
            for dilation in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        total = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        return total
