"""The JSON schema of a config, for editors: a section that names a part has the keys of that part."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from medseg.config.network import EncoderOptions, NetworkConfig, encoder_section
from medseg.config.schema import Config
from medseg.config.section import PartSection, Section, all_sections, key_docstrings
from medseg.networks.encoders import ENCODERS

NULL = {"type": "null"}
REFERENCE = "#/$defs/{model}"


def config_schema() -> dict[str, Any]:
    """The schema, with a description of every key."""
    schema = Config.model_json_schema()
    parts = {Config.__name__: schema, **schema["$defs"]}
    for section in filter(is_declared, all_sections()):
        name = section.__name__
        if name not in parts:
            continue
        if issubclass(section, PartSection):
            schema["$defs"][name] = {"description": section.__doc__, "anyOf": list(alternatives(section))}
        elif section is EncoderOptions:
            every = (encoder_section(encoder).model_json_schema() for encoder in ENCODERS.own.values())
            schema["$defs"][name] = {"description": section.__doc__, "anyOf": list(map(nullable, every))}
        else:
            describe(parts[name], section)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def is_declared(section: type[Section]) -> bool:
    """Whether a section is in its module by its name, not made of another for the keys of one part."""
    return getattr(sys.modules[section.__module__], section.__name__, None) is section


def describe(schema: dict[str, Any], section: type[Section]) -> None:
    """Add what the source says of each key."""
    for key, text in key_docstrings(section).items():
        schema["properties"][key]["description"] = text


def alternatives(section: type[PartSection]) -> Iterator[dict[str, Any]]:
    """The section of each part of medseg, and that of any other part."""
    default = section.model_fields["name"].default
    names = list(section.table.own)
    for given in section.choices():
        schema = section.section_of(given).model_json_schema(ref_template=REFERENCE)
        schema.pop("$defs", None)
        describe(schema, section)
        if issubclass(section, NetworkConfig):
            _with_encoder(schema, has_one="encoder" in section.options_of(given))
        name = given["name"]
        nullable(schema)["properties"]["name"] = {"const": name}
        yield {**schema, "title": name, "required": [] if name == default else ["name"]}
    others = {"properties": {"name": {"not": {"enum": names}}}, "required": ["name"]}
    yield {"type": "object", **others, "title": "a part of another package"}


def _with_encoder(schema: dict[str, Any], has_one: bool) -> None:
    """Of a network: the keys of its encoder; null where it has none."""
    keys = schema["properties"]
    if not has_one:
        for key in ("encoder", "encoder_options"):
            keys[key] = {"description": keys[key]["description"], "anyOf": [NULL]}
        return
    own = {"enum": list(ENCODERS.own)}
    keys["encoder"] |= {"anyOf": [own, {"type": "string"}]}
    keys["encoder_options"] |= {"anyOf": [{"type": "object"}]}
    reference = {"$ref": REFERENCE.format(model=EncoderOptions.__name__)}
    schema["anyOf"] = [
        {"properties": {"encoder_options": {"anyOf": [reference, NULL]}}},
        {"properties": {"encoder": {"type": "string", "not": own}}, "required": ["encoder"], "title": "of a package"},
    ]


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with null for every key: the default of the part."""
    for name, key in schema["properties"].items():
        if NULL not in key.get("anyOf", []):
            kept = {word: key.pop(word) for word in ("title", "description", "default") if word in key}
            schema["properties"][name] = {"anyOf": [*key.pop("anyOf", []), *([key] if key else []), NULL], **kept}
    return schema
