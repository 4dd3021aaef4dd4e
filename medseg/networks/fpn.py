"""Semantic FPN (Kirillov et al., arXiv 1901.02446) on a feature pyramid (Lin et al., arXiv 1612.03144)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from monai.networks.layers.factories import Dropout
from torch import Tensor, nn

from medseg.core.types import AnyNorm, Count, Counts, Norm, PyramidHead, Share, chosen
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.conv_norm_relu import conv_norm_relu
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.feature_pyramid import DilatedContext, FeaturePyramid
from medseg.networks.blocks.layers import resize


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
                conv_norm_relu(spatial_dims, out_channels if index else in_channels, out_channels, 3, norm=norm)
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


class FPN(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    The defaults are the form of detectron2 and mmsegmentation (which has ResNets with the deep stem). That of
    segmentation-models-pytorch is `smoothing=False, segmentation_norm="group32", align_corners=True, dropout=0.2,
    encoder_options={"stem": "7x7"}`.

    Args:
        encoder: the name of one; its last four features make the pyramid.
        pyramid_channels: of the maps of the pyramid.
        segmentation_channels: of the map that they are summed to.
        smoothing: a 3x3 convolution on each map of the pyramid.
        head: `sum` of all maps, or `mlp`: two 1x1 convolutions on the top-most (finest) map only.
        segmentation_norm: norm of the head, by default `norm`; also `group32`.
        align_corners: of the resizes (segmentation-models-pytorch does).
        context: dilations of parallel 3x3 convolutions on the coarsest feature, in the place of its lateral.

    Raises:
        ValueError: an unknown head, norm or encoder option.
    """

    published: ClassVar = {"resnet": {"stem": "deep"}}  # mmsegmentation's, whose parameter counts these networks have

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet50",
        auxiliary: bool = False,
        norm: Norm = "batch",
        encoder_options: Mapping[str, Any] | None = None,
        pyramid_channels: Count = 256,
        segmentation_channels: Count = 128,
        smoothing: bool = True,
        head: PyramidHead = "sum",
        segmentation_norm: AnyNorm | None = None,
        align_corners: bool = False,
        dropout: Share = 0.1,
        context: Counts | None = None,
    ) -> None:
        chosen(head, PyramidHead, "head")
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm)
        self.align_corners = align_corners
        channels = self.encoder.channels[-4:]
        top = DilatedContext(spatial_dims, channels[-1], pyramid_channels, context, norm) if context else None
        self.pyramid = FeaturePyramid(spatial_dims, channels, pyramid_channels, smoothing=smoothing, top=top)
        self.top_only = head == "mlp"
        head_norm = segmentation_norm or norm
        self.sum: nn.Module
        if self.top_only:
            self.sum = conv_norm_relu(spatial_dims, pyramid_channels, segmentation_channels, 1, norm=head_norm)
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
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        maps = self.pyramid(features[-len(self.pyramid.laterals) :])
        logits = self.head(self.dropout(self.sum(maps[0] if self.top_only else maps)))
        return resize(logits, x.shape[2:], self.align_corners)
