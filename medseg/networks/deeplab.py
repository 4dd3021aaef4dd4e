"""DeepLab v1 (Chen et al., arXiv 1412.7062): LargeFOV and its multi-scale form; DeepLab v2 (arXiv 1606.00915)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import make_norm, resize
from medseg.networks.blocks.relu import relu_after
from medseg.networks.blocks.upsampling import ToImage
from medseg.networks.encoders import build_encoder
from medseg.networks.fcn import FCNHead


class DeepLabV1(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    VGG-16 at an output stride of 8 with poolings of 3, a mean pooling, `fc6` as a 3x3 convolution with dilation 12.

    Args:
        auxiliary: in training mode return `[logits, logits of an FCN head on the feature before the last]`.
        norm: of encoder and classifier; None is the encoder's own.
        fc_channels: channels of `fc6` and `fc7`.
        rate: dilation of `fc6`.
        branch_width: channels of each branch of the multi-scale form.
        upsample: `linear`, or `transposed`: learned, and linear to begin with.
        encoder_options: further arguments of the encoder, as `width`.
    """

    multi_scale = False

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "vgg16",
        auxiliary: bool = False,
        norm: str | None = None,
        output_stride: int | None = 8,
        fc_channels: int = 1024,
        rate: int = 12,
        dropout: float = 0.5,
        branch_width: int = 128,
        upsample: str = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"norm": norm, "output_stride": output_stride}
        if encoder.startswith("vgg"):
            options["pool_kernel"] = 3
        self.encoder = build_encoder(encoder, spatial_dims, in_channels, **{**options, **(encoder_options or {})})
        norm = ("batch" if encoder.endswith("_bn") else "none") if norm is None else norm
        channels, strides = self.encoder.channels, self.encoder.strides
        conv = convolution(spatial_dims)

        def fc(inputs: int, rate: int, kernel: int) -> nn.Sequential:
            layer = make_norm(norm, fc_channels, spatial_dims)
            return nn.Sequential(
                conv(inputs, fc_channels, kernel_size=kernel, padding=kernel // 2 * rate, dilation=rate),
                layer,
                relu_after(layer),
                nn.Dropout(dropout),
            )

        self.pool = nn.Sequential(  # in 3D a mean pooling with padding of its own refuses maps smaller than the kernel
            nn.ConstantPad2d(1, 0.0) if spatial_dims == 2 else nn.ConstantPad3d(1, 0.0),
            Pool[Pool.AVG, spatial_dims](3, stride=1),
        )
        self.fc6 = fc(channels[-1], rate, 3)
        self.fc7 = fc(fc_channels, 1, 1)
        for layer in (self.fc6[0], self.fc7[0]):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.branches = nn.ModuleList()
        if self.multi_scale:  # of the image and of all features but the last, each brought to the last one's stride
            ones = (1,) * spatial_dims
            for inputs, stride in zip((in_channels, *channels[:-1]), (ones, *strides[:-1]), strict=True):
                step = tuple(a // b for a, b in zip(strides[-1], stride, strict=True))
                self.branches.append(
                    nn.Sequential(
                        conv(inputs, branch_width, kernel_size=3, stride=step, padding=1),
                        nn.ReLU(inplace=True),
                        nn.Dropout(dropout),
                        conv(branch_width, branch_width, kernel_size=1),
                        nn.ReLU(inplace=True),
                        nn.Dropout(dropout),
                    )
                )
        self.head = conv(fc_channels + branch_width * len(self.branches), out_channels, kernel_size=1)
        self.upsample = ToImage(spatial_dims, out_channels, strides[-1], upsample=upsample)
        self.auxiliary = FCNHead(spatial_dims, channels[-2], out_channels, norm=norm) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        features = self.encoder(x)
        y = self.fc7(self.fc6(self.pool(features[-1])))
        scales = [branch(source) for branch, source in zip(self.branches, (x, *features[:-1]), strict=False)]
        logits = self.upsample(self.head(torch.cat((y, *scales), dim=1)), size)
        if not self.training or self.auxiliary is None:
            return logits
        return [logits, resize(self.auxiliary(features[-2]), size)]


class DeepLabV1MultiScale(DeepLabV1):
    """DeepLab v1 whose last layer also sees two convolutions on the image and on each of the first four poolings."""

    multi_scale = True


class DeepLabV2(nn.Module):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    Args:
        auxiliary: in training mode add the logits of an FCN head on the feature before the last.
        output_stride: of the encoder; None leaves it to one that cannot dilate.
        rates: dilation of the convolutions whose logits are summed (ASPP).
        scales: the image is also seen at these sizes, as 0.5 and 0.75 in the paper, and the largest logit wins; in
            training mode the list holds that, then the logits of every scale.
        upsample: `linear`, or `transposed`: learned, and linear to begin with.
        encoder_options: further arguments of the encoder, as `width`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "resnet101",
        auxiliary: bool = False,
        norm: str = "batch",
        output_stride: int | None = 8,
        rates: Sequence[int] = (6, 12, 18, 24),
        scales: Sequence[float] = (),
        upsample: str = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"norm": norm, "output_stride": output_stride}
        if encoder.startswith("resnet"):
            options["dilate_first_block"] = True
        self.encoder = build_encoder(encoder, spatial_dims, in_channels, **{**options, **(encoder_options or {})})
        self.scales = tuple(scales)
        channels = self.encoder.channels
        self.aspp = nn.ModuleList(
            convolution(spatial_dims)(channels[-1], out_channels, kernel_size=3, padding=rate, dilation=rate)
            for rate in rates
        )
        for conv in self.aspp:
            nn.init.normal_(conv.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.upsample = ToImage(spatial_dims, out_channels, self.encoder.strides[-1], upsample=upsample)
        self.auxiliary = FCNHead(spatial_dims, channels[-2], out_channels, norm=norm) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        size = x.shape[2:]
        features = self.encoder(x)
        pyramid = [self._score(features[-1])]
        for scale in self.scales:
            smaller = resize(x, [max(round(n * scale), 1) for n in size])
            pyramid.append(resize(self._score(self.encoder(smaller)[-1]), pyramid[0].shape[2:]))
        best = pyramid[0]
        for scores in pyramid[1:]:
            best = torch.maximum(best, scores)
        logits = self.upsample(best, size)
        if not self.training:
            return logits
        outputs = [logits]
        if self.scales:
            outputs += [self.upsample(scores, size) for scores in pyramid]
        if self.auxiliary is not None:
            outputs.append(resize(self.auxiliary(features[-2]), size))
        return outputs if len(outputs) > 1 else logits

    def _score(self, feature: Tensor) -> Tensor:
        scores = self.aspp[0](feature)
        for conv in self.aspp[1:]:
            scores = scores + conv(feature)
        return scores
