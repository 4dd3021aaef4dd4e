"""DeepLab v1 (Chen et al., arXiv 1412.7062): LargeFOV and its multi-scale form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from medseg.core.types import Count, Norm, OutputStride, Share, Upsampling
from medseg.networks.base import EncoderNetwork
from medseg.networks.blocks.convolution import convolution
from medseg.networks.blocks.layers import make_norm
from medseg.networks.blocks.relu import relu_after
from medseg.networks.blocks.upsampling import ToImage


class DeepLabV1(EncoderNetwork):
    """`(B, in_channels, *spatial)` -> logits `(B, out_channels, *spatial)`, for any size of image.

    VGG-16 at an output stride of 8 with poolings of 3, a mean pooling, `fc6` as a 3x3 convolution with dilation 12.

    Args:
        norm: of encoder and classifier; null is the encoder's own.
        fc_channels: channels of `fc6` and `fc7`.
        rate: dilation of `fc6`, the large field of view.
        dropout: behind `fc6` and `fc7`.
        branch_width: channels of each branch of the multi-scale form (`deeplabv1_msc`).
    """

    published: ClassVar = {"vgg": {"pool_kernel": 3}}
    multi_scale = False

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        encoder: str = "vgg16",
        auxiliary: bool = False,
        norm: Norm | None = None,
        output_stride: OutputStride | None = 8,
        fc_channels: Count = 1024,
        rate: Count = 12,
        dropout: Share = 0.5,
        branch_width: Count = 128,
        upsample: Upsampling = "linear",
        encoder_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(spatial_dims, in_channels, encoder, encoder_options, norm=norm, output_stride=output_stride)
        layers: str = getattr(self.encoder, "classifier_norm", "none") if norm is None else norm
        channels, strides = self.encoder.channels, self.encoder.strides
        conv = convolution(spatial_dims)

        def fc(inputs: int, rate: int, kernel: int) -> nn.Sequential:
            layer = make_norm(layers, fc_channels, spatial_dims)
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
        self.auxiliary = self.auxiliary_head(spatial_dims, out_channels, auxiliary, layers)

    def decode(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        y = self.fc7(self.fc6(self.pool(features[-1])))
        scales = [branch(source) for branch, source in zip(self.branches, (x, *features[:-1]), strict=False)]
        return self.upsample(self.head(torch.cat((y, *scales), dim=1)), x.shape[2:])


class DeepLabV1MultiScale(DeepLabV1):
    """DeepLab v1 whose last layer also sees two convolutions on the image and on each of the first four poolings."""

    multi_scale = True
