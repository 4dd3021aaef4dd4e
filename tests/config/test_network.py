"""The network section: the options of the network and of the encoder that are named, and what they have to fit to."""

from __future__ import annotations

import pytest

from medseg.config.document import Document
from medseg.config.network import NetworkConfig, encoder_section
from medseg.config.section import Section
from medseg.config.validate import validated
from medseg.core.errors import ConfigError
from medseg.networks import NETWORKS, ON_ENCODER
from medseg.networks.encoders import ENCODERS


class Whole(Section):
    network: NetworkConfig


def problems_of(**options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        validated(Whole, Document("c.yaml", {"network": options}))
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_keys_are_the_options_of_the_network(name: str) -> None:
    own = {"name", "spatial_dims", "encoder", "encoder_options", "pretrained", "inflate"}
    assert set(type(NetworkConfig.of(name=name)).model_fields) == own | set(NETWORKS[name].options)
    assert NetworkConfig.of(name=name).options().keys() == {"spatial_dims", *NETWORKS[name].options}


def test_a_unet_on_an_encoder_has_other_options() -> None:
    section = NetworkConfig.of(encoder="resnet18")
    assert set(section.options()) == {"spatial_dims", *ON_ENCODER["unet"].options}
    assert section.options()["encoder"] == "resnet18"
    assert "deep_supervision" not in section.known


def test_every_option_is_described() -> None:
    parts = [*NETWORKS.own.values(), *ON_ENCODER.values(), *ENCODERS.own.values()]
    bare = {f"{part.name}.{name}" for part in parts for name, option in part.options.items() if not option.help}
    assert not bare


def test_keys_of_encoder_options_are_those_of_the_encoder_in_use() -> None:
    assert set(encoder_section(ENCODERS["resnet18"]).model_fields) == set(ENCODERS["resnet18"].options)
    assert "block" not in ENCODERS["resnet18"].options
    text = problems_of(name="hrnet", encoder_options={"stem": "deep"})
    assert "encoder_options.stem: hrnet_w18 has no option 'stem'; it has checkpoint, norm, stem_width" in text
    assert "did you mean 'strides'" in problems_of(name="fpn", encoder_options={"stride": [1, 2]})


def test_an_option_of_another_network_is_refused() -> None:
    text = problems_of(name="fcn", widths=[8, 16])
    assert "network.widths: fcn has no option 'widths'; it has auxiliary, dropout, encoder" in text
    given = NetworkConfig.of(name="fpn", encoder="resnet18")
    assert given.given() == {"encoder": "resnet18"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auxiliary": True}, "auxiliary: unet without an encoder has no option 'auxiliary'; it has activation"),
        ({"encoder_options": {"width": 0.5}}, "encoder_options: unet without an encoder has no such option"),
        ({"encoder": "resnet18", "residual": True}, "residual: unet on an encoder has no option 'residual'"),
        ({"encoder": "resnet18", "deep_supervision": False}, "deep_supervision: unet on an encoder has no option"),
        ({"name": "segresnet", "encoder": "resnet18"}, "encoder: segresnet has no such option; it has blocks_down"),
        ({"upsample": "nearest"}, "upsample: unknown value 'nearest'\n    -> did you mean 'linear'"),
        (
            {"name": "segresnet", "upsample": "nearest"},
            "upsample: unknown value 'nearest'\n    -> did you mean 'linear'",
        ),
        ({"name": "dynunet", "strides": [1, 2]}, "strides: needs one entry a level: got 2 for 5 widths"),
        ({"name": "attentionunet", "strides": [1, [2, 2]], "widths": [4, 8]}, "strides: [2, 2] must have 3 numbers"),
        ({"name": "dynunet", "kernel_sizes": [2, 3, 3, 3, 3]}, "kernel_sizes: 2 must be odd"),
        ({"widths": [8]}, "widths: needs at least two levels"),
        ({"name": "fpn", "encoder": "resnet5"}, "encoder: unknown value 'resnet5'\n    -> did you mean 'resnet50'"),
        ({"name": "fpn", "encoder": "timm"}, "encoder: timm has 2 dimensions only"),
        ({"name": "fpn", "encoder_options": {"width": 0}}, "encoder_options.width: must be greater than 0"),
        ({"name": "pspnet", "width": 0.5}, "width: must be a valid integer"),
        (
            {"encoder": "resnet18", "strides": [1, 2, 2]},
            "strides: unet on an encoder has no option 'strides'; it has auxiliary, blocks_per_level, climb_to_image, "
            "encoder, encoder_options, norm, presence, upsample, widths\n    -> leave network.encoder out",
        ),
        (
            {"auxiliary": True},
            "auxiliary: unet without an encoder has no option 'auxiliary'; it has activation, blocks_per_level, "
            "deep_supervision, downsample, dropout, kernel_sizes, norm, residual, strides, upsample, widths\n"
            "    -> set network.encoder",
        ),
        (
            {"name": "fpn", "encoder": "zzz"},
            "encoder: unknown value 'zzz'\n    -> known: alexnet, efficientnet_lite0, hrnet_w18, hrnet_w18s, "
            "hrnet_w32, hrnet_w48, plain, resnet101, resnet18, resnet34, resnet50, timm, vgg16, vgg16_bn. "
            "Others come with packages (entry points 'medseg.encoders')",
        ),
    ],
)
def test_options_that_do_not_go_together(options: dict, message: str) -> None:
    assert f"network.{message}" in problems_of(**options)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"name": "fpm", "encoder": "resnet18", "encoder_options": {"stem": "deep"}}, "name"),
        ({"name": "fpm", "encoder_options": {"anything": 1}}, "name"),
        ({"name": "segresnett", "blocks_down": [1, 2]}, "name"),
        ({"name": "fpm", "encoder": "resnet18", "encoder_options": {"stems": "deep"}}, "name encoder_options.stems"),
        ({"name": "fpm", "encoder": "resnet5"}, "name encoder"),
        ({"name": "hrnet", "encoder": "resnet5", "encoder_options": {"stem": "deep"}}, "encoder"),
        ({"encoder": "resnet5", "widths": [8, 16, 32, 64, 128], "upsample": "nearest"}, "encoder"),
        ({"name": "fpn", "encoder": "timm", "encoder_options": {"model": "convnext_tiny"}}, "encoder"),
    ],
)
def test_nothing_is_said_of_options_whose_part_is_in_doubt(options: dict, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validated(Whole, Document("c.yaml", {"network": options}))
    assert {problem.where.split("network.")[1] for problem in caught.value.problems} == set(key.split())


def test_a_unet_on_an_encoder_has_the_decoders_widths() -> None:
    config = NetworkConfig.of(encoder="hrnet_w18", widths=[8, 16, 32, 64], upsample="nearest", auxiliary=True)
    assert config.coarsest([64, 64, 64]) is None
    assert config.options()["widths"] == [8, 16, 32, 64]


def test_what_a_unets_coarsest_voxel_spans() -> None:
    assert NetworkConfig.of(widths=[8, 16, 32]).multiple() == [4, 4, 4]
    flat = NetworkConfig.of(widths=[8, 16, 32], strides=[1, [2, 2, 1], [2, 2, 1]])
    assert flat.multiple() == [4, 4, 1]
    assert flat.coarsest([40, 30, 5]) == [10, 8, 5]
    assert NetworkConfig.of(name="fpn", encoder="resnet18").multiple() is None


def test_what_holds_of_several_levels_is_said_once() -> None:
    assert problems_of(kernel_sizes=[2, 2, 2, 2, 2]).count("must be odd") == 1
