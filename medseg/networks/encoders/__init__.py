"""Encoders: image -> features, the finest first, with `channels` and `strides` of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from medseg.core.errors import did_you_mean
from medseg.networks.encoders.efficientnet import EfficientNetLite0Encoder
from medseg.networks.encoders.hrnet import HRNetEncoder
from medseg.networks.encoders.plain import PlainEncoder
from medseg.networks.encoders.resnet import BasicBlock, Bottleneck, ResNetEncoder
from medseg.networks.encoders.timm import TimmEncoder
from medseg.networks.encoders.vgg import AlexNetEncoder, VGGEncoder

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "plain": PlainEncoder,
    "alexnet": AlexNetEncoder,
    "vgg16": partial(VGGEncoder, norm="none"),
    "vgg16_bn": partial(VGGEncoder, norm="batch"),
    "resnet18": partial(ResNetEncoder, block=BasicBlock, depths=(2, 2, 2, 2)),
    "resnet34": partial(ResNetEncoder, block=BasicBlock, depths=(3, 4, 6, 3)),
    "resnet50": partial(ResNetEncoder, block=Bottleneck, depths=(3, 4, 6, 3)),
    "resnet101": partial(ResNetEncoder, block=Bottleneck, depths=(3, 4, 23, 3)),
    "efficientnet_lite0": EfficientNetLite0Encoder,
    "hrnet_w18s": partial(HRNetEncoder, layout="w18s"),
    "hrnet_w18": partial(HRNetEncoder, layout="w18"),
    "hrnet_w32": partial(HRNetEncoder, layout="w32"),
    "hrnet_w48": partial(HRNetEncoder, layout="w48"),
    "timm": TimmEncoder,
}


def build_encoder(name: str, spatial_dims: int, in_channels: int, **options: Any) -> Any:
    """The encoder of that name in `ENCODERS`; an option that is None is left to the encoder's own default.

    It is a module that has, of each feature, `channels`, `strides` (to the image) and `steps` (to the one before).

    Raises:
        ValueError: an unknown name or option, with the nearest one.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder {name!r} is unknown; {did_you_mean(name, ENCODERS)}")
    given = {key: value for key, value in options.items() if value is not None}
    known = [key for key in inspect.signature(ENCODERS[name]).parameters if key not in ("spatial_dims", "in_channels")]
    for key in given:
        if key not in known:
            raise ValueError(f"encoder {name!r} has no option {key!r}; {did_you_mean(key, known)}")
    return ENCODERS[name](spatial_dims, in_channels, **given)
