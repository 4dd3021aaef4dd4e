"""The JSON schema of a config."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medseg.config.document import read_document
from medseg.config.editor import config_schema
from medseg.config.load import load_config
from medseg.config.network import NetworkConfig
from medseg.config.schema import Config
from medseg.core.resources import resource_file, resource_names
from medseg.networks import NETWORKS, ON_ENCODER

SCHEMA = config_schema()


def alternatives(name: str) -> list[dict[str, Any]]:
    found = SCHEMA["$defs"]["NetworkConfig"]["anyOf"]
    return [one for one in found if one["properties"]["name"].get("const") == name]


def test_the_schema_describes_every_key() -> None:
    assert SCHEMA["additionalProperties"] is False
    assert set(SCHEMA["properties"]) == set(Config.model_fields)
    assert "labelled cases" in SCHEMA["$defs"]["DataConfig"]["properties"]["validation"]["description"]


@pytest.mark.parametrize("name", NETWORKS.own)
def test_every_network_has_its_own_keys_each_described(name: str) -> None:
    parts = [NETWORKS[name], *([ON_ENCODER[name]] if name in ON_ENCODER else [])]
    for part, schema in zip(parts, alternatives(name), strict=True):
        ours = {"name", "spatial_dims", "encoder", "encoder_options", "pretrained", "inflate"}
        assert set(schema["properties"]) == ours | set(part.options)
        for key, value in schema["properties"].items():
            assert key in ("name", "spatial_dims") or value["description"], key
    assert "[2, 3]" in json.dumps(alternatives("fcn")[0]["properties"]["spatial_dims"])


def test_every_encoder_has_its_own_keys() -> None:
    keys = [set(one["properties"]) for one in SCHEMA["$defs"]["EncoderOptions"]["anyOf"]]
    assert {"model", "output_stride", "norm"} in keys
    assert any("stem_width" in one and "stem" not in one for one in keys)


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value follows a schema, as far as its words are used here."""
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}
    if "type" in schema and not isinstance(value, types.get(schema["type"], int | float)):
        return False
    if "anyOf" in schema and not any(fits(value, one) for one in schema["anyOf"]):
        return False
    if "not" in schema and fits(value, schema["not"]):
        return False
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    if isinstance(value, list):
        return all(fits(one, schema.get("items", {})) for one in value)
    if not isinstance(value, dict):
        return True
    keys, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    known = all(fits(one, keys[key]) if key in keys else more is not False for key, one in value.items())
    return known and set(schema.get("required", [])) <= set(value)


@pytest.mark.parametrize("name", resource_names("configs"))
def test_shipped_configs_follow_the_schema(name: str) -> None:
    data = read_document(resource_file("configs", name)).data
    assert fits(data, SCHEMA)
    assert not fits({**data, "network": {**data["network"], "widhts": [8]}}, SCHEMA)
    assert not fits({**data, "network": {"name": "fcn", "bins": [8]}}, SCHEMA)
    assert fits({**data, "network": {"name": "of_a_package", "anything": 1}}, SCHEMA)
    encoded = {"encoder": "resnet18", "encoder_options": {"stem": "deep"}}
    assert fits({**data, "network": {**encoded, "widths": None}}, SCHEMA)
    assert not fits({**data, "network": {**encoded, "residual": True}}, SCHEMA)
    assert not fits({**data, "network": {**encoded, "encoder_options": {"stems": "deep"}}}, SCHEMA)
    assert fits({**data, "network": {"encoder": "of_a_package", "encoder_options": {"stems": "deep"}}}, SCHEMA)
    for section in ("network", "loss"):
        assert not fits({**data, section: None}, SCHEMA)
        assert not fits({**data, section: []}, SCHEMA)


@pytest.mark.parametrize("name", resource_names("configs"))
def test_dumped_configs_follow_the_schema(name: str) -> None:
    assert fits(load_config(name).model_dump(mode="json"), SCHEMA)


@pytest.mark.parametrize("name", NETWORKS.own)
def test_a_network_with_nothing_said_follows_the_schema_once_dumped(name: str) -> None:
    reference = {"$ref": "#/$defs/NetworkConfig"}
    dumped = NetworkConfig.of(name=name).model_dump(mode="json")
    assert fits(dumped, reference)
    assert fits({**dumped, "encoder": "resnet18"}, reference) == ("encoder" in NETWORKS[name].options)
