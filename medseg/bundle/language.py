"""MONAI's bundle language: what in a compiled bundle is code, and how everything else is carried as data.

A component is written `target(UNet, spatial_dims=3)` with the class imported and becomes
`{"_target_": "medseg.networks.unet.UNet", "spatial_dims": 3}`; `Code("@id")` refers to another component and
`Code("$...")` is an expression that MONAI evaluates. Only `Code`, which medseg's own source writes, is code. All other
text comes from a user or a file (names, paths, descriptions) and is data, whatever it begins with.

`for_monai` is the one door to MONAI, for what runs in memory and for what stands in a YAML. MONAI evaluates every text
that begins with `$`, looks up what begins with `@` or `%`, and writes `::` for every `#`. So a text that it would not
leave as it is becomes a component that gives the text back, `literal(text='"scans\\u00232"')`; other text stays plain.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from monai.bundle import ConfigParser

from medseg.core.plain import CODE_KEYS

Component = dict[str, Any]

ACTS = re.compile(r"\A[$@%]|[@%](?:::|#)")  # evaluated, looked up, or read as a relative id
CHANGES = re.compile(r"#")  # written as `::`
MARKS = re.compile(r"[$@%#]")
SEPARATES = re.compile(r"#|::|\A[:\s]|[:\s]\Z")  # the keys of an id, of which MONAI strips blanks


class Code(str):
    """Text that medseg's own source wrote for MONAI to evaluate (`$`), to look up (`@`) or to import.

    No text of a user or a file is ever made part of one.
    """

    __slots__ = ()


def target(component: Callable, **arguments: Any) -> Component:
    """The component as data; MONAI's own go by their bare name, as in its model zoo, torch's by their public one."""
    module, name = component.__module__, component.__qualname__
    if module.startswith("monai."):
        return {"_target_": Code(name), **arguments}
    if module.startswith("torch."):
        parents = [module.rsplit(".", depth)[0] for depth in range(module.count("."), 0, -1)]
        module = next(p for p in [*parents, module] if getattr(import_module(p), name, None) is component)
    return {"_target_": Code(f"{module}.{name}"), **arguments}


def parsed(content: Component) -> ConfigParser:
    """MONAI's parser of what was compiled: the only one that medseg makes."""
    return ConfigParser(for_monai(content))


def for_monai(content: Any) -> Any:
    """A copy of what was compiled in which `Code` is plain text, and no other text or key means anything to MONAI.

    Objects stay as they are, and tuples too: MONAI does not look into them.

    Raises:
        ValueError: medseg itself wrote code below a key that MONAI would not leave as it is.
    """
    if isinstance(content, Code):
        return str(content)
    if isinstance(content, str):
        return _as_literal(content) if _is_changed(content) else content
    if isinstance(content, list):
        return [for_monai(entry) for entry in content]
    if not isinstance(content, Mapping):
        return content
    if all(_is_safe(key, value) for key, value in content.items()):
        return {key: for_monai(value) for key, value in content.items()}
    return _as_literal(content)


def for_metadata(content: Any) -> Any:
    """A copy of the content of `metadata.json`, which MONAI reads as a part of the bundle and people read as text.

    So what MONAI would evaluate or look up is put in quotes, which it does not.
    """
    if isinstance(content, str):
        return _quoted(content) if ACTS.search(content) or content in CODE_KEYS else content
    if isinstance(content, list):
        return [for_metadata(entry) for entry in content]
    if not isinstance(content, Mapping):
        return content
    return {for_metadata(key): for_metadata(value) for key, value in content.items()}


def literal(text: str) -> Any:
    """Data that MONAI's language cannot write as they are: a text or a table, in JSON with its marks escaped."""
    return json.loads(text)


def _as_literal(content: Any) -> Component:
    if _has_code(content):
        raise ValueError(f"medseg wrote code where only data can stand: {content!r}")
    return {key: str(value) for key, value in target(literal, text=_quoted(content)).items()}


def _quoted(content: Any) -> str:
    """JSON in ASCII that neither begins with a mark of MONAI's language nor holds one."""
    return MARKS.sub(lambda mark: f"\\u{ord(mark[0]):04x}", json.dumps(content))


def _is_changed(text: str) -> bool:
    """Whether MONAI would make something else of the text; or a YAML, of other line ends and bytes that are no text."""
    return bool(ACTS.search(text) or CHANGES.search(text)) or not text.replace("\n", "").isprintable()


def _is_safe(key: Any, value: Any) -> bool:
    """Whether the key is a name to MONAI, or has a meaning that medseg itself gave it."""
    if not isinstance(key, str):
        return True
    if key in CODE_KEYS:
        return isinstance(value, Code) or callable(value)
    return not _is_changed(key) and SEPARATES.search(key) is None


def _has_code(content: Any) -> bool:
    if isinstance(content, Mapping):
        return any(_has_code(value) for value in content.values())
    return any(map(_has_code, content)) if isinstance(content, list | tuple) else isinstance(content, Code)
