"""What a class or function takes: its arguments with their types, defaults and descriptions, and its constants.

Of medseg's own they are read from the source, without importing what that imports; of others from what is imported.
"""

from __future__ import annotations

import ast
import collections.abc
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@cache
def vocabulary() -> dict[str, Any]:
    """What an annotation of a part's signature may be written in."""
    from medseg.core import types  # needs pydantic, which who only wants the names need not wait for

    return {**vars(typing), **vars(collections.abc), **vars(types)}


BARE = {"ABC", "object", "nn.Module"}
"""Bases whose constructor takes nothing."""


@dataclass(frozen=True)
class Option:
    """An argument of a part.

    Args:
        kind: its annotation, as a type.
        default: `inspect.Parameter.empty` where it must be given.
        help: what the docstring says of it below "Args:", or that of a base.
    """

    name: str
    kind: Any
    default: Any
    help: str = ""


def signature_of(part: Callable[..., Any]) -> dict[str, Option]:
    """The arguments of a class or function that is imported.

    Raises:
        Exception: an annotation cannot be evaluated; of the type that its evaluation raises.
    """
    is_class = isinstance(part, type)
    function = part.__init__ if is_class else part
    package = part.__module__.partition(".")[0]
    texts: dict[str, str] = {}
    for one in reversed(inspect.getmro(part)) if isinstance(part, type) else [part]:
        if one.__module__.partition(".")[0] in ("medseg", package):
            texts |= described(one.__doc__ or "")
    kinds = typing.get_type_hints(function, localns=vocabulary(), include_extras=True)
    return {
        name: Option(name, kinds.get(name, Any), given.default, texts.get(name, ""))
        for name, given in list(inspect.signature(function).parameters.items())[1 if is_class else 0 :]
        if given.kind not in (given.VAR_KEYWORD, given.VAR_POSITIONAL)
    }


def signature_in_source(path: str) -> dict[str, Option]:
    """As `signature_of`, of "package.module:Name", read from its file without importing what that imports."""
    module, _, name = path.partition(":")
    node, _ = _definition(module, name)
    function = node if isinstance(node, ast.FunctionDef) else _constructor(module, node)
    if function is None:
        return {}
    texts = _described_in_source(module, name)
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return {
        one.arg: Option(
            one.arg,
            Any if one.annotation is None else eval(ast.unparse(one.annotation), dict(vocabulary())),
            inspect.Parameter.empty if default is None else ast.literal_eval(default),
            texts.get(one.arg, ""),
        )
        for one, default in pairs
        if one.arg != "self"
    }


def constants_of(part: Any) -> dict[str, Any]:
    """The names in capitals of a class that is imported, its bases' too."""
    kinds = reversed(getattr(part, "__mro__", ()))
    return {name: value for kind in kinds for name, value in vars(kind).items() if name.isupper()}


def constants_in_source(path: str) -> dict[str, Any]:
    """As `constants_of`, of "package.module:Name", read from its file; literals only."""
    module, _, name = path.partition(":")
    node, _ = _definition(module, name)
    found: dict[str, Any] = {}
    for where, base in _bases(module, node) if isinstance(node, ast.ClassDef) else ():
        found = constants_in_source(f"{where}:{base}") | found
    for item in node.body:
        named = (
            item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
        )
        for target in named:
            if isinstance(target, ast.Name) and target.id.isupper() and (value := getattr(item, "value", None)):
                with suppress(ValueError):  # no literal: nothing that is asked of a class without importing it
                    found[target.id] = ast.literal_eval(value)
    return found


def docstring_in_source(path: str) -> str:
    """That of "package.module:Name"; "" where it has none."""
    _, text = _definition(*path.split(":"))
    return text


def described(docstring: str) -> dict[str, str]:
    """Argument -> what the "Args:" of a docstring says of it."""
    found: dict[str, str] = {}
    block = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(docstring), re.MULTILINE)
    entry = re.compile(r"^ {4}(\w+(?:, \w+)*): ((?:.*\n?)(?:^ {5,}.*\n?)*)", re.MULTILINE)
    for names, text in entry.findall(block[1] if block else ""):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def _described_in_source(module: str, name: str) -> dict[str, str]:
    """Argument -> what a class, or the nearest base of it, says of it."""
    node, text = _definition(module, name)
    found: dict[str, str] = {}
    for where, base in _bases(module, node) if isinstance(node, ast.ClassDef) else ():
        found = _described_in_source(where, base) | found
    return found | described(text)


def _definition(module: str, name: str) -> tuple[ast.ClassDef | ast.FunctionDef, str]:
    """A class or function of that name in the source of a module, and its docstring."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node, ast.get_docstring(node) or ""
    raise LookupError(f"{module} defines no {name}")


def _constructor(module: str, node: ast.ClassDef) -> ast.FunctionDef | None:
    """`__init__` of a class, or of the first of its bases that has one; None where none of medseg's has.

    Raises:
        LookupError: a base that is not medseg's may have arguments of its own.
    """
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item
    for where, base in _bases(module, node):
        inherited, _ = _definition(where, base)
        if isinstance(inherited, ast.ClassDef) and (found := _constructor(where, inherited)) is not None:
            return found
    known = {base for _, base in _bases(module, node)} | BARE
    if strange := [name for base in node.bases if (name := ast.unparse(base)) not in known]:
        raise LookupError(f"{module}: {node.name} has no __init__ of its own, and {strange[0]} is not medseg's")
    return None


def _bases(module: str, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The bases of a class that medseg defines: module and name."""
    for base in node.bases:
        if isinstance(base, ast.Name) and (where := _home(module, base.id)):
            yield where, base.id


def _home(module: str, name: str) -> str | None:
    """The module of medseg that defines what a module calls by this name."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return node.module if str(node.module).startswith("medseg.") else None
    return None


@cache
def _tree(module: str) -> ast.Module:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"no module {module}")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
