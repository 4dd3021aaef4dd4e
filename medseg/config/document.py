"""A YAML file as plain data that knows the file and line of every key, and that cannot execute anything.

YAML 1.2 through ruamel: `1e-4` is a number, `no` is a word, a key given twice is an error. Tags (`!!python/object`),
aliases, and texts that MONAI would evaluate or look up (`$...`, `@...`, `%...`, `_target_`) are refused.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from medseg.core.errors import ConfigError, Problem
from medseg.core.files import readable
from medseg.core.plain import refusal

Keys = tuple[str | int, ...]

SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "timestamp")}


@dataclass
class Document:
    """Plain data and where each part of it was written.

    Args:
        source: the file, as the user named it.
        data: nested dicts, lists, strings, numbers, booleans, None.
        places: keys of a value -> "file:line", or "--set key=value".
        problems: what was wrong with the text itself.
        refused: keys of which nothing more is to be said.
        replaced: keys that `--set` overrode -> the value they had.
    """

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Keys, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: list[Keys] = field(default_factory=list)
    replaced: dict[Keys, Any] = field(default_factory=dict)

    def where(self, keys: Keys) -> str:
        """`configs/brain.yaml:12 network.name`: the line of these keys, or of the nearest part that was written."""
        place = next((self.places[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in self.places), self.source)
        return place if place.startswith("--set") or not keys else f"{place} {dotted(keys)}"

    def override(self, assignment: str) -> None:
        """Apply one `--set a.b=value`; the value is read as YAML."""
        place = f"--set {assignment}"
        path, separator, text = assignment.partition("=")
        keys = tuple(part.strip() for part in path.split("."))
        if not separator or not all(keys):
            self.problems.append(Problem(place, "is not of the form key=value", "for example --set training.seed=1"))
            return
        value = self._read(text, place, keys)
        target = self.data
        for depth, key in enumerate(keys[:-1], start=1):
            if target.get(key) is None:
                target[key] = {}
                self.places[keys[:depth]] = place
            target = target[key]
            if not isinstance(target, dict):
                self.problems.append(Problem(place, f"{dotted(keys[:depth])} is a value ({target!r}), not a section"))
                return
        self.replaced.setdefault(keys, target.get(keys[-1]))
        target[keys[-1]] = value
        self.places = {known: line for known, line in self.places.items() if known[: len(keys)] != keys}
        self.places[keys] = place

    def _read(self, text: str, place: str, keys: Keys) -> Any:
        yaml = YAML(typ="safe", pure=True)
        try:
            node = yaml.compose(io.StringIO(text))
        except (YAMLError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f"{place}:{mark.line + 1}" if mark and not keys else place
            self.refused.append(keys)
            self.problems.append(Problem(line, f"is not YAML: {getattr(error, 'problem', error)}"))
            return None
        return None if node is None else _Builder(self, yaml, place, at_lines=not keys).build(node, keys)


class _Builder:
    """Walks the node tree of one YAML text, once, collecting plain data, places and problems."""

    def __init__(self, document: Document, yaml: YAML, place: str, at_lines: bool) -> None:
        self.document, self.yaml, self.place, self.at_lines = document, yaml, place, at_lines
        self.seen: set[int] = set()

    def build(self, node: Node, keys: Keys) -> Any:
        if id(node) in self.seen:  # the same node again: an alias
            what, remedy = "aliases (*name) are not read", "write the value out"
            return self.refuse(node, keys, what, remedy, where=self.document.places.get(keys))
        self.seen.add(id(node))
        if isinstance(node, MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self.mapping(node, keys)
        if isinstance(node, SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.build(self.at(child, (*keys, n)), (*keys, n)) for n, child in enumerate(node.value)]
        if isinstance(node, ScalarNode) and node.tag in SCALARS:
            if node.tag.endswith(("str", "timestamp")):
                return self.text(node, keys)
            return self.scalar(node, keys)
        return self.refuse(node, keys, f"the tag {node.tag!r} is refused: a config is data, not code")

    def mapping(self, node: MappingNode, keys: Keys) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = str(key_node.value) if isinstance(key_node, ScalarNode) else "?"
            path = (*keys, name)
            if not isinstance(key_node, ScalarNode):
                self.refuse(key_node, keys, "a key must be a name")
            elif name in result:
                first = self.document.places.get(path, "").rpartition(":")[2]
                self.report(self.line(key_node), path, f"this key is given twice (first in line {first})", "keep one")
            elif reason := refusal(name):
                self.refuse(key_node, path, reason)
            else:
                self.at(key_node, path)
                result[name] = self.build(value_node, path)
        return result

    def scalar(self, node: ScalarNode, keys: Keys) -> Any:
        """A number, a truth value or nothing."""
        try:
            return self.yaml.constructor.construct_object(node)
        except (ValueError, LookupError, YAMLError):  # of a tag that the text does not fit, or of thousands of digits
            what = f"{_shortened(node.value)!r} cannot be read as {str(node.tag).rpartition(':')[2]}"
            return self.refuse(node, keys, what, "write a plain value")

    def text(self, node: ScalarNode, keys: Keys) -> str:
        if reason := refusal(node.value):
            self.refuse(node, keys, reason)
        return node.value

    def at(self, node: Node, keys: Keys) -> Node:
        if self.at_lines:
            self.document.places[keys] = self.line(node)
        return node

    def line(self, node: Node) -> str:
        return f"{self.place}:{node.start_mark.line + 1}" if self.at_lines else self.place

    def refuse(self, node: Node, keys: Keys, what: str, remedy: str = "", where: str | None = None) -> None:
        self.document.refused.append(keys)
        self.report(where or self.line(node), keys, what, remedy)

    def report(self, where: str, keys: Keys, what: str, remedy: str) -> None:
        where = f"{where} {dotted(keys)}" if self.at_lines and keys else where
        self.document.problems.append(Problem(where, what, remedy))


def _shortened(text: str, shown: int = 40) -> str:
    return text if len(text) <= shown else f"{text[:shown]}..."


def read_document(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read a YAML file and apply every `--set`; raises ConfigError when the file cannot be read at all."""
    try:
        text = readable(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(Problem(str(path), f"cannot be read: {reason}")) from None
    return document_of(text, str(path), overrides)


def document_of(text: str, source: str, overrides: Sequence[str] = ()) -> Document:
    """As `read_document`, of a text.

    Args:
        source: what messages call it.
    """
    document = Document(source=source)
    data = document._read(text, source, ())
    if isinstance(data, dict):
        document.data = data
    elif not document.problems:
        found = "nothing" if data is None else f"a {type(data).__name__}"
        document.problems.append(Problem(source, f"must hold `key: value` lines, but holds {found}"))
    for assignment in overrides:
        document.override(assignment)
    return document


class _Representer(SafeRepresenter):
    """Lists on one line, sections in a block, and in quotes what would be read as a key in such a line."""

    def represent_list(self, data: list[Any]) -> SequenceNode:
        flat = not any(isinstance(entry, dict) for entry in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)

    def represent_text(self, data: str) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="'" if data.startswith(("?", ":")) else None)


_Representer.add_representer(list, _Representer.represent_list)
_Representer.add_representer(str, _Representer.represent_text)


def write_document(data: Any) -> str:
    """Plain data as YAML that `read_document` reads back to the same data."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # keep the order of the keys
    yaml.width = 120
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def dotted(keys: Keys) -> str:
    """`("network", "widths", 0)` -> `network.widths.0`, as after `--set`."""
    return ".".join(str(key) for key in keys)
