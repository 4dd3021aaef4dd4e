"""The `network` section of a config: which network, and its options.

A key that is left out (null) has the network's own default; a key that the network does not have is an error. `OPTIONS`
says which has which; a test holds it against the constructors in `medseg.networks`, which are not imported here, since
they need torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from medseg.config.section import Finding, Section
from medseg.core.types import Count, Positive, Share, Size

Strides = list[Count | Size]

ENCODED = {"encoder", "auxiliary", "norm", "encoder_options"}  # what every network on an encoder has
DILATED = ENCODED | {"output_stride", "upsample"}
FCN = ENCODED | {"padding", "fc_channels", "dropout", "at_once"}
DEEPLAB_V1 = DILATED | {"fc_channels", "rate", "dropout", "branch_width"}
DEEPLAB_V3 = DILATED | {"multi_grid", "rates", "width", "dropout", "align_corners"}
LEVELS = {"widths", "strides", "kernel_sizes", "norm", "residual", "dropout", "deep_supervision"}
FPN = {"pyramid_channels", "segmentation_channels", "smoothing", "head", "segmentation_norm", "context"}

OPTIONS: dict[str, set[str]] = {
    "attentionunet": {"widths", "strides", "dropout"},
    "deeplabv1": DEEPLAB_V1,
    "deeplabv1_msc": DEEPLAB_V1,
    "deeplabv2": DILATED | {"rates", "scales"},
    "deeplabv3": DEEPLAB_V3,
    "deeplabv3plus": DEEPLAB_V3 | {"low_level_width", "separable"},
    "dynunet": LEVELS,
    "efficientfcn": ENCODED | {"width", "wide", "codewords", "dropout"},
    "encnet": ENCODED | {"channels", "codes", "lateral", "presence", "dropout"},
    "fcn": DILATED | {"dropout"},
    "fcn16s": FCN,
    "fcn32s": FCN,
    "fcn8s": FCN,
    "fpn": ENCODED | FPN | {"align_corners", "dropout"},
    "hrnet": ENCODED,
    "pspnet": DILATED | {"bins", "width", "dropout", "align_corners"},
    "segresnet": {"width", "blocks_down", "blocks_up", "norm", "dropout", "upsample"},
    "swinunetr": {"width", "depths", "attention_heads", "window_size", "norm", "dropout", "checkpoint", "v2"},
    "unet": LEVELS | {"blocks_per_level", "activation", "upsample", "downsample"},
}
OPTIONS_WITH_ENCODER: dict[str, set[str]] = {  # of networks that need none, once one is given
    "unet": ENCODED | {"widths", "blocks_per_level", "upsample"},
}
UNETS = ("attentionunet", "dynunet", "unet")  # one entry a level in widths, strides, kernel_sizes
UNET_WIDTHS = (32, 64, 128, 256, 320)  # their own default


def options_of(name: str, encoder: str | None) -> set[str]:
    """The options of a network; a U-Net on an encoder has others than one without."""
    return OPTIONS_WITH_ENCODER[name] if encoder is not None and name in OPTIONS_WITH_ENCODER else OPTIONS[name]


NetworkName = Literal[
    "attentionunet",
    "deeplabv1",
    "deeplabv1_msc",
    "deeplabv2",
    "deeplabv3",
    "deeplabv3plus",
    "dynunet",
    "efficientfcn",
    "encnet",
    "fcn",
    "fcn16s",
    "fcn32s",
    "fcn8s",
    "fpn",
    "hrnet",
    "pspnet",
    "segresnet",
    "swinunetr",
    "unet",
]
EncoderName = Literal[
    "alexnet",
    "efficientnet_lite0",
    "hrnet_w18",
    "hrnet_w18s",
    "hrnet_w32",
    "hrnet_w48",
    "resnet101",
    "resnet18",
    "resnet34",
    "resnet50",
    "timm",
    "vgg16",
    "vgg16_bn",
]


class EncoderOptions(Section):
    """Options of the encoder; each encoder has some of them, and says so when it is built."""

    width: Count | Positive | None = None
    """Factor on the channels (ResNet, VGG, AlexNet, EfficientNet), or the channels of the finest branch (HRNet)."""
    stem: Literal["7x7", "deep", "deep_wide"] | None = None
    """ResNet: one 7x7 convolution, or three 3x3 with 32-32-64 or 64-64-128 channels."""
    stem_width: Count | None = None
    strides: Strides | None = None
    """Down-sampling of each stage, one number or one an axis, for anisotropic volumes."""
    dilate_first_block: bool | None = None
    """ResNet: dilate a stage from its first block on, as segmentation-models-pytorch, not from its second."""
    multi_grid: list[Count] | None = None
    checkpoint: bool | None = None
    """Compute activations anew in the backward pass: less memory, a third more time."""
    model: str | None = None
    """timm: the model's name."""


class NetworkConfig(Section):
    """Which network, and its options; null is the network's own default."""

    name: NetworkName = "unet"
    spatial_dims: Literal[2, 3] = 3
    encoder: EncoderName | None = None
    encoder_options: EncoderOptions | None = None
    auxiliary: bool | None = None
    """Train on a second head at an earlier stage too (its weight: loss.auxiliary_weight)."""
    pretrained: str | None = None
    """Weights to start from: a file with torchvision's names, or efficientnet_lite0 (a package of that name)."""
    inflate: Literal["mean", "centre"] = "mean"
    """How pretrained 2D kernels become 3D: spread evenly over the depth, or on the middle slice."""
    norm: Literal["instance", "group", "batch", "syncbatch", "none"] | None = None
    activation: Literal["leakyrelu", "relu", "gelu", "silu"] | None = None
    dropout: Share | None = None
    upsample: Literal["transposed", "linear", "nearest"] | None = None
    """Up-sampling: transposed convolution, or (tri)linear resize; nearest: a U-Net on an encoder only."""
    downsample: Literal["stride", "pool"] | None = None
    """U-Net: strided convolution, or max pooling."""
    align_corners: bool | None = None
    output_stride: Literal[8, 16, 32] | None = None
    multi_grid: list[Count] | None = None
    """Factors on the dilation of the blocks of the last stage."""
    rate: Count | None = None
    """DeepLab v1: dilation of the large field of view."""
    rates: list[Count] | None = None
    """Dilations of the spatial pyramid (ASPP)."""
    scales: list[Positive] | None = None
    """DeepLab v2: further scales of the image, of which the maximum counts."""
    bins: list[Count] | None = None
    """PSPNet: sizes of the pooled maps."""
    width: Count | None = None
    """Channels of the decoder; SegResNet, SwinUNETR: at full resolution."""
    widths: Annotated[list[Count], Field(min_length=1)] | None = None
    """U-Nets: channels at each resolution, the finest first; on an encoder those of the decoder."""
    strides: Strides | None = None
    """U-Nets: down-sampling before each resolution, one number or one an axis; default 1, then 2 each."""
    kernel_sizes: Strides | None = None
    """U-Nets: kernel of the convolutions at each resolution, one number or one an axis; default 3 each."""
    blocks_per_level: Count | None = None
    """U-Net: convolution blocks at each resolution."""
    residual: bool | None = None
    deep_supervision: bool | None = None
    """U-Net, DynUNet: train on the coarser maps of the decoder too (weights 1, 1/2, 1/4, ...)."""
    low_level_width: Count | None = None
    separable: bool | None = None
    """DeepLab v3+: depthwise separable convolutions."""
    padding: Literal["published", "same"] | None = None
    """FCN on VGG: pad by 100 and crop, as published, or keep sizes."""
    fc_channels: Count | None = None
    branch_width: Count | None = None
    at_once: bool | None = None
    """FCN: scale the skips so that all streams train at once."""
    pyramid_channels: Count | None = None
    segmentation_channels: Count | None = None
    segmentation_norm: Literal["instance", "group", "batch", "syncbatch", "none"] | None = None
    smoothing: bool | None = None
    context: Annotated[list[Count], Field(min_length=1)] | None = None
    """FPN: dilations of parallel convolutions on the coarsest feature."""
    head: Literal["sum", "mlp"] | None = None
    """FPN: the sum of all levels, or the finest map only with an MLP."""
    channels: Count | None = None
    codes: Count | None = None
    lateral: bool | None = None
    presence: bool | None = None
    """EncNet: predict which classes are in the image too (its weight: loss.presence_weight)."""
    wide: Count | None = None
    codewords: Count | None = None
    blocks_down: list[Count] | None = None
    """SegResNet: residual blocks at each resolution on the way down."""
    blocks_up: list[Count] | None = None
    depths: list[Count] | None = None
    """SwinUNETR: transformer blocks of the four stages."""
    attention_heads: list[Count] | None = None
    window_size: Count | None = None
    """SwinUNETR: side of the windows of attention, in voxels of each stage's grid."""
    checkpoint: bool | None = None
    """SwinUNETR: compute activations anew in the backward pass (encoders: encoder_options.checkpoint)."""
    v2: bool | None = None
    """SwinUNETR-V2: a convolution block before each stage."""

    def options(self) -> dict[str, Any]:
        """The options that are set, as arguments of the network."""
        return self.model_dump(exclude={"name", "pretrained", "inflate"}, exclude_none=True)

    @property
    def known(self) -> set[str]:
        """The options that the network has."""
        return options_of(self.name, self.encoder)

    def findings(self) -> Iterable[Finding]:
        called: str = self.name
        if self.name in OPTIONS_WITH_ENCODER:
            called += " without an encoder" if self.encoder is None else " on an encoder"
        for key in self.options():
            if key != "spatial_dims" and key not in self.known:
                yield (key, "name"), f"{called} has no such option; it has {', '.join(sorted(self.known))}"
        if self.upsample == "nearest" and (self.name != "unet" or self.encoder is None):
            yield ("upsample", "name"), "nearest is for a unet on an encoder; others have transposed or linear"
        levels = len(self.widths or UNET_WIDTHS)
        if levels < 2 and self.encoder is None:
            yield ("widths",), f"needs at least two levels (got {self.widths})"
        for key in ("strides", "kernel_sizes"):
            entries = getattr(self, key) or []
            if entries and self.name in UNETS and len(entries) != levels:
                yield (key, "widths"), f"needs one entry a level: got {len(entries)} for {levels} widths"
            for entry in entries:
                if isinstance(entry, list) and len(entry) != self.spatial_dims:
                    yield (key, "spatial_dims"), f"{entry} must have {self.spatial_dims} numbers (spatial_dims)"
        for entry in self.kernel_sizes or []:
            if any(size % 2 == 0 for size in (entry if isinstance(entry, list) else [entry])):
                yield ("kernel_sizes",), f"{entry} must be odd, so that a convolution keeps the size"
        if self.encoder == "timm" and self.spatial_dims == 3:
            yield ("encoder", "spatial_dims"), "timm's encoders have two dimensions only"

    def level_strides(self) -> list[list[int]] | None:
        """Down-sampling before each resolution of a U-Net without an encoder, a number an axis; of others not known."""
        if self.name != "unet" or self.encoder is not None:
            return None
        strides = self.strides or [1, *[2] * (len(self.widths or UNET_WIDTHS) - 1)]
        return [stride if isinstance(stride, list) else [stride] * self.spatial_dims for stride in strides]

    def coarsest(self, size: list[int]) -> list[int] | None:
        """The number of voxels along each axis at a U-Net's coarsest resolution, for a patch of `size`, if known."""
        strides = self.level_strides()
        for stride in strides or []:
            size = [math.ceil(n / step) for n, step in zip(size, stride, strict=True)]
        return size if strides else None

    def multiple(self) -> list[int] | None:
        """Voxels along each axis that a U-Net's coarsest resolution takes as one, if known."""
        strides = self.level_strides()
        return [math.prod(steps) for steps in zip(*strides, strict=True)] if strides else None
