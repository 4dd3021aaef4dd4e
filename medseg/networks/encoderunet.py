"""U-Net (Ronneberger et al., arXiv 1505.04597) on any encoder, in the form of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from medseg.core.types import Count, Counts, DecoderUpsampling, Norm, chosen
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.conv_norm_relu import conv_norm_relu
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import concatenate, initialise, resize
from medseg.networks.blocks.upsampling import Upsample
from medseg.networks.levels import per_level

WIDEST, NARROWEST = 256, 16


class Climb(nn.Module):
    """A map -> one of `out_channels` at a finer size: up-sampled, joined by the encoder's feature there, convolved."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        step: Sequence[int],
        *,
        blocks: int,
        norm: str,
        upsample: str,
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.transposed: nn.Module | None = None
        if upsample == "transposed":
            self.transposed = Upsample(spatial_dims, in_channels, out_channels, step, upsample)
            in_channels = out_channels
        self.blocks = nn.Sequential(
            *(
                conv_norm_relu(
                    spatial_dims, out_channels if index else in_channels + skip_channels, out_channels, 3, norm=norm
                )
                for index in range(blocks)
            )
        )

    def forward(self, x: Tensor, size: Sequence[int], skip: Tensor | None = None) -> Tensor:
        if self.transposed is not None:
            x = self.transposed(x, size)
        elif self.upsample == "linear":
            x = resize(x, size)
        elif tuple(x.shape[2:]) != tuple(size):
            x = F.interpolate(x, size=tuple(size), mode="nearest")
        return self.blocks(x if skip is None else concatenate(x, skip))


class EncoderUNet(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    In training with `auxiliary` or `presence` a list: the logits, those of a head on the second last feature, and those
    `(B, out_channels)` of which classes the image holds.

    The encoder's coarsest feature climbs to each finer one, joined by it, and at last to the image. The defaults are
    those of segmentation-models-pytorch.

    Args:
        encoder: the name of one. VGG gives its features before the poolings, the first at the image's size.
        norm: of encoder and decoder; null is the encoder's own, and batch norm in the decoder.
        encoder_options: further options of the encoder, as `width`, `strides` or, for timm, `model`.
        widths: channels of the decoder at each of its levels, the finest first; default 256 at the coarsest, then
            half at each, at least 16.
        blocks_per_level: convolutions at each level.
        upsample: `nearest` or `linear` resize, or `transposed` convolution to the width of the level.
        climb_to_image: where the encoder's finest feature is coarser than the image, one more level without anything to
            join. Without it the logits are resized from that feature, which saves about half of the decoder's time.
        presence: in training predict from the mean of the coarsest feature which classes are in the image too (the SE
            loss of EncNet, Zhang et al., arXiv 1803.08904, 3.2), so that the encoder learns what is healthy.

    Raises:
        ValueError: an unknown upsample, another number of widths, or an encoder with features of one stride only.
    """

    published: ClassVar = {"vgg": {"before_pooling": True}}

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet34",
        auxiliary: bool = False,
        norm: Norm | None = None,
        encoder_options: Mapping[str, Any] | None = None,
        widths: Counts | None = None,
        blocks_per_level: Count = 2,
        upsample: DecoderUpsampling = "nearest",
        climb_to_image: bool = True,
        presence: bool = False,
    ) -> None:
        chosen(upsample, DecoderUpsampling, "upsample")
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm)
        norm = "batch" if norm is None else norm
        channels, strides = self.encoder.channels, self.encoder.strides
        if len(set(strides)) < 2:
            given = ", ".join(str(max(stride)) for stride in strides)
            raise ValueError(f"encoder {encoder!r} has features of stride {given}: a U-Net needs finer ones to join")

        skips, steps = list(channels[:-1]), list(self.encoder.steps[1:])
        if max(strides[0]) > 1 and climb_to_image:  # the last climb, to the image, has nothing to join
            skips, steps = [0, *skips], [strides[0], *steps]
        if widths is None:
            widths = [max(WIDEST >> level, NARROWEST) for level in reversed(range(len(steps)))]
        per_level("widths", widths, len(steps), of=f"on {encoder}")
        self.climbs = nn.ModuleList(
            Climb(spatial_dims, below, skip, width, step, blocks=blocks_per_level, norm=norm, upsample=upsample)
            for below, skip, width, step in zip((*widths[1:], channels[-1]), skips, widths, steps, strict=True)
        )
        self.head = convolution(spatial_dims)(widths[0], out_channels, kernel_size=3, padding=1)
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, norm)
        self.presence = nn.Linear(channels[-1], out_channels) if presence else None
        self.climbs.apply(initialise)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        features = self.encoder(x)
        presence = []
        if self.training and self.presence is not None:
            presence = [self.presence(features[-1].float().flatten(2).mean(2))]
        return self.outputs(self.decode(x, features), x, features, behind=presence)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        skips: list[Tensor | None] = list(features[:-1])
        if len(skips) < len(self.climbs):
            skips.insert(0, None)
        y = features[-1]
        for climb, skip in zip(reversed(self.climbs), reversed(skips), strict=True):
            y = climb(y, x.shape[2:] if skip is None else skip.shape[2:], skip)
        return resize(self.head(y), x.shape[2:])
