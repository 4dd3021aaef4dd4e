"""Semantic FPN (Kirillov et al., arXiv 1901.02446) on a feature pyramid (Lin et al., arXiv 1612.03144)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.networks.layers.factories import Dropout
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import make_norm, resize
from medseg.networks.blocks.relu import relu_after
from medseg.networks.encoders import build_encoder
from medseg.networks.encoders.resnet import conv
from medseg.networks.fcn import FCNHead

HEADS = ("sum", "mlp")


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
        self.laterals = nn.ModuleList(conv(spatial_dims, count, width, 1, bias=True) for count in channels)
        if top is not None:
            self.laterals[-1] = top
        self.smooths = nn.ModuleList(
            conv(spatial_dims, width, width, 3, bias=True) if smoothing else nn.Identity() for _ in channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        maps = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for level in range(len(maps) - 2, -1, -1):
            maps[level] = maps[level] + F.interpolate(maps[level + 1], size=maps[level].shape[2:], mode="nearest")
        return [smooth(x) for smooth, x in zip(self.smooths, maps, strict=True)]


def conv_norm_relu(
    spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int, norm: str, dilation: int = 1
) -> nn.Module:
    """The head's block; norm `group32` has groups of 32, as segmentation-models-pytorch."""
    layer = nn.GroupNorm(32, out_channels) if norm == "group32" else make_norm(norm, out_channels, spatial_dims)
    return nn.Sequential(
        conv(spatial_dims, in_channels, out_channels, kernel_size, dilation=dilation, bias=norm == "none"),
        layer,
        relu_after(layer),
    )


class DilatedContext(nn.Module):
    """The sum of parallel 3x3 convolutions of several dilations, norm, ReLU: a small pyramid on the coarsest map."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, dilations: Sequence[int], norm: str
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            conv_norm_relu(spatial_dims, in_channels, out_channels, 3, norm, dilation) for dilation in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        total = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        return total


class PyramidSum(nn.Module):
    """Maps of a pyramid -> one map on the finest: each climbs there by 3x3 convolution, norm, ReLU and resize; sum.

    Args:
        steps: for each map its stride to the one before it; a map that is no coarser needs no step of its own.
        norm: name of the norm layer, or `group32`.
        align_corners: whether the resizes align the corner voxels (segmentation-models-pytorch).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        steps: Sequence[Sequence[int]],
        *,
        norm: str = "batch",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.levels = nn.ModuleList()
        self.targets: list[list[int]] = []  # the map whose size each convolution's output takes
        for level in range(len(steps)):
            targets = [finer - 1 for finer in range(level, 0, -1) if max(steps[finer]) > 1]
            self.targets.append(targets or [0])
            blocks = [
                conv_norm_relu(spatial_dims, out_channels if index else in_channels, out_channels, 3, norm)
                for index in range(len(self.targets[-1]))
            ]
            self.levels.append(nn.ModuleList(blocks))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        total: Tensor | None = None
        for x, blocks, targets in zip(maps, self.levels, self.targets, strict=True):
            for block, target in zip(blocks, targets, strict=True):  # type: ignore[call-overload]
                x = resize(block(x), maps[target].shape[2:], self.align_corners)
            total = x if total is None else total + x
        assert total is not None
        return total


class FPN(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    The defaults are the form of detectron2 and mmsegmentation (which has ResNets with the deep stem). That of
    segmentation-models-pytorch is `smoothing=False, segmentation_norm="group32", align_corners=True, dropout=0.2,
    encoder_options={"stem": "7x7"}`.

    Args:
        encoder: a name in `ENCODERS`; its last four features make the pyramid.
        encoder_options: arguments of the encoder.
        head: `sum` of all maps, or `mlp`: two 1x1 convolutions on the top-most (finest) map only.
        segmentation_norm: norm of the head, by default `norm`; also `group32`.
        context: dilations of parallel 3x3 convolutions on the coarsest feature, in the place of its lateral.

    Raises:
        ValueError: an unknown head, norm or encoder option.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet50",
        auxiliary: bool = False,
        norm: str = "batch",
        encoder_options: Mapping[str, Any] | None = None,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        smoothing: bool = True,
        head: str = "sum",
        segmentation_norm: str | None = None,
        align_corners: bool = False,
        dropout: float = 0.1,
        context: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ValueError(f"head {head!r} is unknown; known: {', '.join(HEADS)}")
        self.align_corners = align_corners
        options = {"norm": norm, **published_stem(encoder), **(encoder_options or {})}
        self.encoder = build_encoder(encoder, spatial_dims, in_channels, **options)
        channels = self.encoder.channels[-4:]
        top = DilatedContext(spatial_dims, channels[-1], pyramid_channels, context, norm) if context else None
        self.pyramid = FeaturePyramid(spatial_dims, channels, pyramid_channels, smoothing=smoothing, top=top)
        self.top_only = head == "mlp"
        head_norm = segmentation_norm or norm
        self.sum: nn.Module
        if self.top_only:
            self.sum = conv_norm_relu(spatial_dims, pyramid_channels, segmentation_channels, 1, head_norm)
        else:
            self.sum = PyramidSum(
                spatial_dims,
                pyramid_channels,
                segmentation_channels,
                self.encoder.steps[-len(channels) :],
                norm=head_norm,
                align_corners=align_corners,
            )
        self.dropout = Dropout[Dropout.DROPOUT, spatial_dims](dropout)
        self.head = convolution(spatial_dims)(segmentation_channels, out_channels, kernel_size=1)
        self.auxiliary = FCNHead(spatial_dims, channels[-2], out_channels, norm=norm) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        features = self.encoder(x)[-len(self.pyramid.laterals) :]
        maps = self.pyramid(features)
        logits = self.head(self.dropout(self.sum(maps[0] if self.top_only else maps)))
        logits = resize(logits, size, self.align_corners)
        if not self.training or self.auxiliary is None:
            return logits
        return [logits, resize(self.auxiliary(features[-2]), size)]


def published_stem(encoder: str) -> dict[str, str]:
    """mmsegmentation's ResNets, whose parameter counts these networks have, begin with three 3x3 convolutions."""
    return {"stem": "deep"} if encoder.startswith("resnet") else {}
