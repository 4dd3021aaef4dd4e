"""Networks by name, for two and three spatial dimensions.

They are imported when one is built; packages add more by entry points of the group `medseg.networks`. A class takes
`spatial_dims, in_channels, out_channels` and its options, and returns logits at the image's size; in training mode it
may return `[logits, further ones]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medseg.core.errors import ConfigError, Problem, did_you_mean
from medseg.core.parts import Part, Table

if TYPE_CHECKING:
    from torch import nn

NETWORKS = Table(
    "network",
    "medseg.networks",
    {
        "attentionunet": "medseg.networks.attentionunet:AttentionUNet",
        "deeplabv1": "medseg.networks.deeplabv1:DeepLabV1",
        "deeplabv1_msc": "medseg.networks.deeplabv1:DeepLabV1MultiScale",
        "deeplabv2": "medseg.networks.deeplabv2:DeepLabV2",
        "deeplabv3": "medseg.networks.deeplabv3:DeepLabV3",
        "deeplabv3plus": "medseg.networks.deeplabv3plus:DeepLabV3Plus",
        "dynunet": "medseg.networks.dynunet:DynUNet",
        "efficientfcn": "medseg.networks.efficientfcn:EfficientFCN",
        "encnet": "medseg.networks.encnet:EncNet",
        "fcn": "medseg.networks.fcn:FCN",
        "fcn16s": "medseg.networks.fcn:FCN16s",
        "fcn32s": "medseg.networks.fcn:FCN32s",
        "fcn8s": "medseg.networks.fcn:FCN8s",
        "fpn": "medseg.networks.fpn:FPN",
        "hrnet": "medseg.networks.hrnet:HRNet",
        "pspnet": "medseg.networks.pspnet:PSPNet",
        "segresnet": "medseg.networks.segresnet:SegResNet",
        "swinunetr": "medseg.networks.swinunetr:SwinUNETR",
        "unet": "medseg.networks.unet:UNet",
    },
    given=("spatial_dims", "in_channels", "out_channels"),
)
# In the place of a network that has no encoder to choose, once one is chosen.
ON_ENCODER = {"unet": Part("unet", "medseg.networks.encoderunet:EncoderUNet", table=NETWORKS)}


def network_part(name: str, encoder: str | None = None) -> Part:
    """The network of that name; a U-Net on an encoder is another class than one without.

    Raises:
        ConfigError: there is none, with the nearest name.
    """
    return ON_ENCODER[name] if encoder and name in ON_ENCODER else NETWORKS.find(name)


def build_network(
    name: str,
    *,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    encoder: str | None = None,
    auxiliary: bool = False,
    **options: Any,
) -> nn.Module:
    """The network of that name in `NETWORKS`; `options` are its own arguments.

    `encoder` and `auxiliary` reach only a network that has them as arguments.

    Raises:
        ConfigError: an unknown name or option, with the nearest one, or options that do not fit together.
    """
    part = network_part(name, encoder)
    if encoder is not None:
        options["encoder"] = encoder
    if auxiliary:
        options["auxiliary"] = auxiliary
    known = [key for key in part.arguments if key not in NETWORKS.given]
    problems = [
        Problem(key, f"{name} has no option {key!r}", did_you_mean(key, known)) for key in options if key not in known
    ]
    if problems:
        raise ConfigError(problems)
    with options_of(name):
        return part.builder()(spatial_dims=spatial_dims, in_channels=in_channels, out_channels=out_channels, **options)


def name_of(network: Callable[..., Any]) -> str:
    """The name of a network's class in `NETWORKS`; what the class is called where it is not medseg's."""
    path = f"{network.__module__}:{network.__qualname__}"
    named = (part.name for part in (*NETWORKS.own.values(), *ON_ENCODER.values()) if part.path == path)
    return next(named, network.__name__)


@contextmanager
def options_of(name: str) -> Iterator[None]:
    """Inside it a network is made, and what it says of options that do not fit is a mistake of who gave them.

    Args:
        name: of the network, for the message.
    """
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
