"""HRNetV2 (Wang et al., arXiv 1908.07919), layout and parameter names of the official segmentation code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from medseg.core.types import Count, EncoderNorm, HRNetLayout, Steps, chosen
from medseg.networks.blocks.checkpointing import checkpointed
from medseg.networks.blocks.conv_norm_relu import padded_conv
from medseg.networks.blocks.layers import make_norm, per_axis, resize
from medseg.networks.blocks.relu import relu_after
from medseg.networks.encoders.base import Encoder
from medseg.networks.encoders.resnet import BasicBlock, Bottleneck


@dataclass(frozen=True)
class Layout:
    """Blocks of one HRNet: bottlenecks of stage 1, then modules of stages 2-4 and basic blocks a branch."""

    width: int
    bottlenecks: int = 4
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4


# The official yaml files; w18s is their "small v2".
LAYOUTS: Mapping[HRNetLayout, Layout] = {
    "w18s": Layout(18, bottlenecks=2, modules=(1, 3, 2), blocks=2),
    "w18": Layout(18),
    "w32": Layout(32),
    "w48": Layout(48),
}


def conv_norm(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int | Sequence[int] = 1,
    norm: str,
    relu: bool,
) -> nn.Sequential:
    """Convolution (0), norm (1) and, where asked, ReLU (2)."""
    first = padded_conv(spatial_dims, in_channels, out_channels, kernel_size, stride=stride, bias=norm == "none")
    second = make_norm(norm, out_channels, spatial_dims)
    return nn.Sequential(first, second, relu_after(second)) if relu else nn.Sequential(first, second)


def residual(
    block: type[BasicBlock] | type[Bottleneck], spatial_dims: int, in_channels: int, width: int, norm: str
) -> nn.Module:
    """ResNet's block without stride, its shortcut a convolution where the channels change."""
    ones = (1,) * spatial_dims
    out_channels = width * block.expansion
    shortcut = None
    if in_channels != out_channels:
        shortcut = conv_norm(spatial_dims, in_channels, out_channels, 1, norm=norm, relu=False)
    return block(
        spatial_dims,
        in_channels,
        width,
        stride=ones,
        first_dilation=ones,
        dilation=ones,
        norm=norm,
        downsample=shortcut,
    )


def chain(blocks: nn.Module, x: Tensor, checkpoint: bool) -> Tensor:
    """The blocks one after the other; with `checkpoint` their activations are computed anew in the backward pass."""
    for block in blocks.children():
        x = checkpointed(block, x) if checkpoint and torch.is_grad_enabled() else block(x)
    return x


class Module(nn.Module):
    """Parallel branches of basic blocks, then every branch receives the sum of all, resized to it."""

    def __init__(
        self,
        spatial_dims: int,
        widths: Sequence[int],
        steps: Sequence[Sequence[int]],
        *,
        blocks: int,
        norm: str,
        checkpoint: bool,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.branches = nn.ModuleList(
            nn.Sequential(*(residual(BasicBlock, spatial_dims, width, width, norm) for _ in range(blocks)))
            for width in widths
        )
        self.fuse_layers = nn.ModuleList()
        for to, width in enumerate(widths):
            row = nn.ModuleList()
            for source, channels in enumerate(widths):
                if source > to:
                    row.append(conv_norm(spatial_dims, channels, width, 1, norm=norm, relu=False))
                elif source == to:
                    row.append(nn.Identity())
                else:  # down one step at a time; the width changes at the last
                    row.append(
                        nn.Sequential(
                            *(
                                conv_norm(
                                    spatial_dims,
                                    channels,
                                    width if branch == to else channels,
                                    3,
                                    stride=steps[branch],
                                    norm=norm,
                                    relu=branch < to,
                                )
                                for branch in range(source + 1, to + 1)
                            )
                        )
                    )
            self.fuse_layers.append(row)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        features = [chain(branch, x, self.checkpoint) for branch, x in zip(self.branches, features, strict=True)]
        fused = []
        for to, row in enumerate(self.fuse_layers):
            size = features[to].shape[2:]
            total = features[to]
            for source, layer in enumerate(row):  # type: ignore[arg-type, var-annotated]
                if source != to:
                    total = total + resize(layer(features[source]), size)
            fused.append(self.relu(total))
        return fused


class HRNetEncoder(Encoder):
    """`(B, in_channels, *spatial)` -> four features of `width * (1, 2, 4, 8)` channels at strides 4, 8, 16, 32.

    Args:
        layout: how many blocks and channels, one of `LAYOUTS`.
        width: channels of the finest branch instead of the layout's (8 fits a small machine in 3D).
        stem_width: channels of the stem and of stage 1's bottlenecks.
        strides: steps of the two stem convolutions and before each new branch, one number or one an axis.
        norm: of every layer; the published one is `batch`.

    Raises:
        ValueError: an unknown layout, or another number of strides.
    """

    kind = "hrnet"

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        layout: HRNetLayout = "w18",
        width: Count | None = None,
        stem_width: Count = 64,
        strides: Steps = (2, 2, 2, 2, 2),
        norm: EncoderNorm = "batch",
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        if len(strides) != 5:
            raise ValueError(f"HRNet needs 5 strides (two of the stem, three of the branches), got {list(strides)}")
        plan = LAYOUTS[chosen(layout, HRNetLayout, "layout")]
        width = plan.width if width is None else width
        first, second, *branch_steps = (per_axis(stride, spatial_dims) for stride in strides)
        steps = [tuple(a * b for a, b in zip(first, second, strict=True)), *branch_steps]
        self.steps = tuple(steps)
        self.strides = tuple(
            tuple(prod(step[axis] for step in steps[: level + 1]) for axis in range(spatial_dims)) for level in range(4)
        )
        self.channels = tuple(width * 2**level for level in range(4))

        self.conv1, self.bn1 = conv_norm(spatial_dims, in_channels, stem_width, 3, stride=first, norm=norm, relu=False)
        self.conv2, self.bn2 = conv_norm(spatial_dims, stem_width, stem_width, 3, stride=second, norm=norm, relu=False)
        self.relu1, self.relu2 = relu_after(self.bn1), relu_after(self.bn2)
        wide = stem_width * 4
        self.layer1 = nn.Sequential(
            *(
                residual(Bottleneck, spatial_dims, wide if index else stem_width, stem_width, norm)
                for index in range(plan.bottlenecks)
            )
        )

        def new_branch(channels: int, level: int) -> nn.Sequential:
            conv = conv_norm(spatial_dims, channels, self.channels[level], 3, stride=steps[level], norm=norm, relu=True)
            return nn.Sequential(conv)

        def stage(branches: int) -> nn.Sequential:
            widths = self.channels[:branches]
            return nn.Sequential(
                *(
                    Module(spatial_dims, widths, steps, blocks=plan.blocks, norm=norm, checkpoint=checkpoint)
                    for _ in range(plan.modules[branches - 2])
                )
            )

        narrow = conv_norm(spatial_dims, wide, width, 3, norm=norm, relu=True)
        self.transition1 = nn.ModuleList((narrow, new_branch(wide, 1)))
        self.stage2 = stage(2)
        self.transition2 = nn.ModuleList((nn.Identity(), nn.Identity(), new_branch(self.channels[1], 2)))
        self.stage3 = stage(3)
        self.transition3 = nn.ModuleList((nn.Identity(), nn.Identity(), nn.Identity(), new_branch(self.channels[2], 3)))
        self.stage4 = stage(4)

        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = chain(self.layer1, self.relu2(self.bn2(self.conv2(x))), self.checkpoint)
        features = self.stage2([layer(x) for layer in self.transition1])
        for transition, stage in ((self.transition2, self.stage3), (self.transition3, self.stage4)):
            branches = [layer(y) for layer, y in zip(transition, [*features, features[-1]], strict=True)]
            features = stage(branches)
        return features
