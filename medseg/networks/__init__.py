"""Encoder -> decoder -> head, for two and three spatial dimensions."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from medseg.core.errors import ConfigError, Problem, did_you_mean
from medseg.networks.deeplab import DeepLabV1, DeepLabV1MultiScale, DeepLabV2
from medseg.networks.deeplabv3 import DeepLabV3, DeepLabV3Plus
from medseg.networks.efficientfcn import EfficientFCN
from medseg.networks.encnet import EncNet
from medseg.networks.fcn import FCN, FCN8s, FCN16s, FCN32s
from medseg.networks.fpn import FPN
from medseg.networks.hrnet import HRNet
from medseg.networks.monai import AttentionUNet, DynUNet, SegResNet, SwinUNETR
from medseg.networks.pspnet import PSPNet
from medseg.networks.unet import UNet
from medseg.networks.unet_encoder import EncoderUNet

NETWORKS: dict[str, type[nn.Module]] = {
    "attentionunet": AttentionUNet,
    "deeplabv1": DeepLabV1,
    "deeplabv1_msc": DeepLabV1MultiScale,
    "deeplabv2": DeepLabV2,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
    "dynunet": DynUNet,
    "efficientfcn": EfficientFCN,
    "encnet": EncNet,
    "fcn": FCN,
    "fcn16s": FCN16s,
    "fcn32s": FCN32s,
    "fcn8s": FCN8s,
    "fpn": FPN,
    "hrnet": HRNet,
    "pspnet": PSPNet,
    "segresnet": SegResNet,
    "swinunetr": SwinUNETR,
    "unet": UNet,
}
WITH_ENCODER: dict[str, type[nn.Module]] = {"unet": EncoderUNet}  # in the place of one that has none


def network_class(name: str, encoder: str | None = None) -> type[nn.Module]:
    """The class of the network of that name; a U-Net on an encoder is another one."""
    return WITH_ENCODER.get(name, NETWORKS[name]) if encoder else NETWORKS[name]


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
    if name not in NETWORKS:
        raise ConfigError(Problem("network.name", f"unknown network {name!r}", did_you_mean(name, NETWORKS)))
    if encoder is not None:
        options["encoder"] = encoder
    if auxiliary:
        options["auxiliary"] = auxiliary
    network = network_class(name, encoder)
    known = [key for key in inspect.signature(network).parameters if key not in ("in_channels", "out_channels")]
    problems = [
        Problem(f"network.{key}", f"{name} has no such option", did_you_mean(key, known))
        for key in options
        if key not in known
    ]
    if problems:
        raise ConfigError(problems)
    try:
        return network(spatial_dims=spatial_dims, in_channels=in_channels, out_channels=out_channels, **options)
    except ValueError as error:
        raise ConfigError(Problem("network", str(error))) from error
