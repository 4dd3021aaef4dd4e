"""Encoders: image -> features, the finest first, with `channels` and `strides` of each.

They are imported when one is built; packages add more by entry points of the group `medseg.encoders`. A class takes
`spatial_dims, in_channels` and its options, of which `norm` is one that every network asks for; `base.Encoder` says
what else it tells of itself.
"""

from __future__ import annotations

from typing import Any

from medseg.core.errors import did_you_mean
from medseg.core.parts import Part, Table

RESNET = "medseg.networks.encoders.resnet:ResNetEncoder"
HRNET = "medseg.networks.encoders.hrnet:HRNetEncoder"

ENCODERS = Table(
    "encoder",
    "medseg.encoders",
    {
        "alexnet": "medseg.networks.encoders.alexnet:AlexNetEncoder",
        "efficientnet_lite0": "medseg.networks.encoders.efficientnet:EfficientNetLite0Encoder",
        "hrnet_w18": (HRNET, {"layout": "w18"}),
        "hrnet_w18s": (HRNET, {"layout": "w18s"}),
        "hrnet_w32": (HRNET, {"layout": "w32"}),
        "hrnet_w48": (HRNET, {"layout": "w48"}),
        "plain": "medseg.networks.encoders.plain:PlainEncoder",
        "resnet101": (RESNET, {"block": "bottleneck", "depths": (3, 4, 23, 3)}),
        "resnet18": (RESNET, {"block": "basic", "depths": (2, 2, 2, 2)}),
        "resnet34": (RESNET, {"block": "basic", "depths": (3, 4, 6, 3)}),
        "resnet50": (RESNET, {"block": "bottleneck", "depths": (3, 4, 6, 3)}),
        "timm": "medseg.networks.encoders.timm:TimmEncoder",
        "vgg16": "medseg.networks.encoders.vgg:VGGEncoder",
        "vgg16_bn": ("medseg.networks.encoders.vgg:VGGEncoder", {"norm": "batch"}),
    },
    given=("spatial_dims", "in_channels"),
    asked=("norm",),
)
TOLD = ("channels", "strides", "steps")
"""Attributes of an encoder: of each feature its channels, and its stride to the image and to the feature before it."""


def encoder_part(name: str) -> Part:
    """The encoder of that name in `ENCODERS`.

    Raises:
        ValueError: there is none, with the nearest name.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder {name!r} is unknown; {did_you_mean(name, ENCODERS)}")
    return ENCODERS[name]


def build_encoder(name: str, spatial_dims: int, in_channels: int, **options: Any) -> Any:
    """The encoder of that name; an option that is None is left to the encoder's own default.

    It is a module that has the attributes `TOLD`.

    Raises:
        ValueError: an unknown name or option, with the nearest one, or an encoder that lacks one of the attributes.
    """
    part = encoder_part(name)
    given = {key: value for key, value in options.items() if value is not None}
    known = [key for key in part.arguments if key not in ENCODERS.given]
    for key in given:
        if key not in known:
            raise ValueError(f"encoder {name!r} has no option {key!r}; {did_you_mean(key, known)}")
    encoder = part.builder()(spatial_dims=spatial_dims, in_channels=in_channels, **given)
    if missing := [name for name in TOLD if not hasattr(encoder, name)]:
        raise ValueError(f"encoder {name!r} has no attribute {' and no '.join(missing)}, one entry a feature")
    return encoder
