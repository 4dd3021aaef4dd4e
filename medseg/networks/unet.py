"""U-Net (Ronneberger et al., arXiv 1505.04597; Cicek et al., arXiv 1606.06650) as nnU-Net made it standard."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.core.types import Activation, Count, Counts, Downsampling, Norm, Share, Steps, Upsampling
from medseg.networks.blocks.layers import ConvStack, Head, concatenate, initialise, per_axis
from medseg.networks.blocks.upsampling import Upsample
from medseg.networks.encoders.plain import PlainEncoder


class UNetDecoder(nn.Module):
    """Features of an encoder -> maps, the finest first: `(B, channels[i], *size of feature i)` for all but the last.

    Args:
        channels: channels of the encoder's features, the finest first.
        steps: stride of each feature to the one before it, one number an axis.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: Sequence[int],
        steps: Sequence[Sequence[int]],
        *,
        kernel_sizes: Sequence[int | Sequence[int]] | None = None,
        blocks_per_level: int = 2,
        norm: str = "instance",
        activation: str = "leakyrelu",
        upsample: str = "transposed",
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kernels = [3] * len(channels) if kernel_sizes is None else kernel_sizes
        self.channels = tuple(channels[:-1])
        self.upsamples = nn.ModuleList()
        self.levels = nn.ModuleList()
        for level, width in enumerate(self.channels):
            step = per_axis(steps[level + 1], spatial_dims)
            self.upsamples.append(Upsample(spatial_dims, channels[level + 1], width, step, upsample))
            self.levels.append(
                ConvStack(
                    spatial_dims,
                    2 * width,
                    width,
                    blocks=blocks_per_level,
                    kernel_size=kernels[level],
                    norm=norm,
                    activation=activation,
                    residual=residual,
                    dropout=dropout,
                )
            )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        x = features[-1]
        maps: list[Tensor] = []
        for level in reversed(range(len(self.levels))):
            skip = features[level]
            x = self.upsamples[level](x, skip.shape[2:])
            x = self.levels[level](concatenate(x, skip))
            maps.insert(0, x)
        return maps


class UNet(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    In training mode with `deep_supervision` a list: the logits, then those of the coarser levels at their own sizes.
    The form of 2015 (Ronneberger et al.; with padding, so that the logits have the image's size) is
    `widths=(64, 128, 256, 512, 1024), norm="none", activation="relu", downsample="pool", deep_supervision=False`.
    On another encoder: `encoderunet.py`.

    Args:
        widths: channels at each level, the finest first.
        strides: down-sampling before each level, one number or one an axis; default 1, then 2 each.
        kernel_sizes: kernel of each level, odd, one number or one an axis; default 3 each.
        blocks_per_level: convolution blocks at each level, in the encoder and in the decoder.
        norm: of every convolution.
        activation: behind every norm.
        upsample: `transposed` convolution, or `linear` resize and a 1x1 convolution.
        residual: a shortcut around the blocks of each level.
        dropout: behind every convolution.
        deep_supervision: train on the coarser maps of the decoder too (weights 1, 1/2, 1/4, ...).
        downsample: `stride` of a convolution, or max `pool`ing.

    Raises:
        ValueError: an unknown norm, activation, upsample or downsample, an even kernel, lists of different lengths.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        widths: Counts = (32, 64, 128, 256, 320),
        strides: Steps | None = None,
        kernel_sizes: Steps | None = None,
        blocks_per_level: Count = 2,
        norm: Norm = "instance",
        activation: Activation = "leakyrelu",
        upsample: Upsampling = "transposed",
        residual: bool = False,
        dropout: Share = 0.0,
        deep_supervision: bool = True,
        downsample: Downsampling = "stride",
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"a U-Net needs at least two levels, got widths {list(widths)}")
        self.encoder = PlainEncoder(
            spatial_dims,
            in_channels,
            widths,
            strides=strides,
            kernel_sizes=kernel_sizes,
            blocks_per_level=blocks_per_level,
            norm=norm,
            activation=activation,
            residual=residual,
            dropout=dropout,
            downsample=downsample,
        )
        self.decoder = UNetDecoder(
            spatial_dims,
            self.encoder.channels,
            self.encoder.steps,
            kernel_sizes=self.encoder.kernel_sizes,
            blocks_per_level=blocks_per_level,
            norm=norm,
            activation=activation,
            upsample=upsample,
            residual=residual,
            dropout=dropout,
        )
        supervised = self.decoder.channels if deep_supervision else self.decoder.channels[:1]
        self.heads = nn.ModuleList(Head(spatial_dims, width, out_channels) for width in supervised)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        maps = self.decoder(self.encoder(x))
        logits = self.heads[0](maps[0], x.shape[2:])
        if not self.training or len(self.heads) == 1:
            return logits
        return [logits, *(head(level) for head, level in zip(self.heads[1:], maps[1:], strict=True))]
