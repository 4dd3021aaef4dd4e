"""Types and values of options in words, as a person writes them in a config."""

from __future__ import annotations

import collections.abc
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

WORDS = {int: "whole number", float: "number", str: "text", bool: "true | false", NoneType: "null"}
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def spelled(kind: Any) -> str:
    """A type: `whole number >= 1`, `batch | instance`, `list of number > 0`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " | ".join(map(spelled, inner))
    if origin is Annotated:
        limits = [limit for info in inner[1:] for limit in getattr(info, "metadata", [info])]
        found = [(sign, getattr(limit, key, None)) for limit in limits for key, sign in BOUNDS.items()]
        bounds = ", ".join(f"{sign} {bound}" for sign, bound in found if bound is not None)
        return f"{spelled(inner[0])} {bounds}".strip()
    if origin in (list, tuple, collections.abc.Sequence):
        entry = spelled(inner[0])
        return f"list of ({entry})" if " | " in entry else f"list of {entry}"
    if origin in (dict, collections.abc.Mapping):
        return "section"
    return "anything" if kind is Any else WORDS.get(kind, kind.__name__)


def written(value: Any) -> str:
    """A default: `null`, `true`, `[1, 2]`."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"[{', '.join(map(written, value))}]" if isinstance(value, list | tuple) else str(value)
