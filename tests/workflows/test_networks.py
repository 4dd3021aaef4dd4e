from __future__ import annotations

import json
from importlib import metadata
from typing import Any

import pytest

from medseg.core.errors import ConfigError
from medseg.core.machine import Memory
from medseg.core.spelling import written
from medseg.networks import NETWORKS
from medseg.networks.analysis import NORM
from medseg.networks.analysis.reach import POOLING
from medseg.networks.encoders import ENCODERS, build_encoder
from medseg.review.networks_text import as_text
from medseg.workflows import networks as module
from medseg.workflows.networks import networks

TINY = ["network.widths=[4, 8]"]


def test_one_network_with_its_stages() -> None:
    """A published count, and what is known of ResNet-50 with an output stride of 8."""
    result = networks("deeplabv3", size=[65], overrides=["network.auxiliary=true"])
    (row,) = result["networks"]
    assert result["size"] == [65, 65]
    assert row["parameters"] == 42_004_074
    assert row["output_stride"] == [8, 8]
    assert row["options"] == {"auxiliary": True}
    assert row["whole_image_by"] == [POOLING]
    encoder = [stage for stage in row["stages"] if stage["name"].startswith("encoder.")]
    assert [stage["channels"] for stage in encoder] == [64, 256, 512, 1024, 2048]
    assert [stage["stride"] for stage in encoder] == [[2, 2], [4, 4], [8, 8], [8, 8], [8, 8]]
    assert encoder[-1]["receptive_field"] == [427, 427]
    assert row["stages"][-1]["name"] == "logits"
    assert json.loads(json.dumps(result)) == result
    text = as_text(result)
    assert "42,004,074" in text
    assert "encoder.4" in text
    assert "whole image by global pooling" in text


def test_an_anisotropic_volume_has_a_number_for_each_axis() -> None:
    overrides = ["network.widths=[4, 8]", "network.strides=[1, [1, 2, 2]]"]
    result = networks("unet", spatial_dims=3, size=[8, 16, 16], overrides=overrides)
    (row,) = result["networks"]
    assert row["output_stride"] == [1, 2, 2]
    assert row["whole_image_by"] == [NORM]
    assert "1x2x2" in as_text(result)


def test_measured(capfd: pytest.CaptureFixture[str]) -> None:
    result = networks("unet", size=[24], channels=1, classes=2, overrides=TINY, measure=True)
    (row,) = result["networks"]
    assert all(1 <= own <= 24 for own in row["effective_field"])
    assert 0 < row["forward_seconds"] < 30
    assert "of the squared gradient" in as_text(result)
    assert not capfd.readouterr().err  # no progress bar without a terminal


def test_what_does_not_fit_into_memory_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "machine_memory", lambda: Memory(total=2**30, free=2**10))
    monkeypatch.setattr(module, "choose_device", lambda: module.torch.device("cpu"))
    monkeypatch.setattr(module, "effective_field", None)
    result = networks("unet", size=[24], overrides=TINY, measure=True)
    assert "GiB are free" in result["networks"][0]["not_measured"]
    assert "GiB are free" in as_text(result)


def test_a_list_goes_on_where_one_network_is_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {name: module.NETWORKS.own[name] for name in ("fcn", "hrnet", "dynunet", "unet")}
    monkeypatch.setattr(module.NETWORKS, "own", own)
    entry = metadata.EntryPoint("broken", "no_such_module:Net", module.NETWORKS.group)  # what is not named is not asked
    monkeypatch.setattr(metadata, "entry_points", lambda group: metadata.EntryPoints([entry]))
    result = networks(size=[32], encoder="vgg16_bn")
    rows = {row["name"]: row for row in result["networks"]}
    assert list(rows) == ["dynunet", "fcn", "hrnet", "unet"]
    assert "no such option" in rows["dynunet"]["problem"]
    assert rows["fcn"]["parameters"] > 10**7
    assert all("stages" not in row for row in rows.values())
    lines = as_text(result).splitlines()
    assert any(line.startswith("dynunet") and "no such option" in line for line in lines)
    assert any(line.startswith("fcn") and line.endswith("MiB") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "deeplabv9"}, "did you mean 'deeplabv"),
        ({"name": "fcn", "overrides": ["network.widths=[8, 8]"]}, "fcn has no option 'widths'"),
        ({"name": "fcn", "overrides": ["network.encodr=resnet18"]}, "did you mean 'encoder'"),
        ({"name": "fcn", "overrides": ["training.seed=1"]}, "unknown key 'training'"),
        ({"name": "fcn", "overrides": ["network.name=unet"]}, "name or dimensions"),
        ({"name": "fcn", "encoder": "resnet9000"}, "unknown value 'resnet9000'"),
        ({"name": "fcn", "size": [64, 64, 64]}, "not a size in 2D"),
        ({"name": "fcn", "size": [0]}, "not a size in 2D"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        networks(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_network_has_its_row(spatial_dims: int) -> None:
    result = networks(spatial_dims=spatial_dims, size=[64])
    assert [row["name"] for row in result["networks"]] == sorted(NETWORKS)
    for row in result["networks"]:
        assert "problem" not in row
        assert row["parameters"] > 10**5
        assert row["gmac"] > 0
        assert row["activation_mib"] > 0
        assert len(row["receptive_field"]) == spatial_dims
    local = {row["name"] for row in result["networks"] if not row["whole_image_by"]}
    chains = {"deeplabv1", "deeplabv1_msc", "deeplabv2", "fcn", "fcn16s", "fcn32s", "fcn8s", "fpn", "hrnet"}
    assert local == chains


def test_one_network_says_what_it_can_be_told() -> None:
    result = networks("pspnet", size=[32], encoder="resnet18", overrides=["network.encoder_options.width=0.125"])
    keys = {key["key"]: key for key in result["networks"][0]["keys"]}
    assert keys["network.bins"]["type"] == "list of whole number >= 1"
    assert keys["network.width"]["help"].startswith("channels of the convolution that joins")
    assert keys["network.encoder_options.width"]["default"] == "1.0"
    assert keys["network.encoder_options.stem"]["default"] == "deep_wide", "what PSPNet asks of a ResNet"
    lines = as_text(result).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("network.bins "))
    assert lines[at].endswith("list of whole number >= 1")
    assert "default [1, 2, 3, 6]" in lines[at]
    assert lines[at + 1] == "    cells along each axis of the grids."


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, part in NETWORKS.own.items() if "encoder" in part.options])
def test_the_defaults_of_an_encoder_are_those_under_its_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def recorded(*args: Any, **options: Any) -> Any:
        given.update(options)
        return build_encoder(*args, **options)

    monkeypatch.setattr("medseg.networks.base.build_encoder", recorded)
    (row,) = networks(name, size=[33])["networks"]
    assert given.keys() >= {"norm"} or NETWORKS[name].options["norm"].default is None
    encoder = NETWORKS[name].options["encoder"].default
    own = {key: option.default for key, option in ENCODERS[encoder].options.items()}
    said = {key["key"].split(".")[-1]: key["default"] for key in row["keys"] if "encoder_options." in key["key"]}
    assert said == {key: written(given.get(key, value)) for key, value in own.items()}
