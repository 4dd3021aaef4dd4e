"""Parts that a config names: networks, encoders, losses, layouts, writers, ...

Each package has an explicit table of its parts in its `__init__`, name -> where the class stands, and installed
packages may add to it by entry points of the same group. A part is imported when it is built, not when it is named. Its
options are the arguments of its class that have a default: the signature is the only place where they stand.

    NETWORKS = Table("network", "medseg.networks", {"pspnet": "medseg.networks.pspnet:PSPNet"})
    NETWORKS["pspnet"].options         # {"bins": Option(...), ...}, without importing torch
    NETWORKS["pspnet"].load()          # the class
"""

from __future__ import annotations

import ast
import collections.abc
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medseg.core.errors import ConfigError, Problem, did_you_mean

if typing.TYPE_CHECKING:
    from importlib.metadata import EntryPoints


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


@dataclass(frozen=True)
class Part:
    """A class or function with a name.

    Args:
        path: "package.module:Name".
        preset: arguments that go with the name, as `depths=(2, 2, 2, 2)` with resnet18.
        distribution, version: of the installed package that brings it; None for medseg's own.
    """

    name: str
    path: str
    preset: Mapping[str, Any] = field(default_factory=dict, hash=False)
    distribution: str | None = None
    version: str | None = None

    def load(self) -> Any:
        """The class or function itself, without its preset."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)

    def builder(self) -> Callable[..., Any]:
        """What is called to make one: the class, with its preset."""
        return partial(self.load(), **self.preset) if self.preset else self.load()

    @cached_property
    def arguments(self) -> dict[str, Option]:
        """Every argument but `self`, positional ones too; medseg's own are read from the source, not imported."""
        return signature_in_source(self.path) if self.distribution is None else signature_of(self.load())

    @cached_property
    def options(self) -> dict[str, Option]:
        """What a config can set: the arguments that have a default and are not preset."""
        return {
            name: option
            for name, option in self.arguments.items()
            if name not in self.preset and option.default is not inspect.Parameter.empty
        }

    @cached_property
    def constants(self) -> dict[str, Any]:
        """What the class says of itself: the names in capitals that it, or a base, sets to literals."""
        return constants_in_source(self.path) if self.distribution is None else constants_of(self.load())

    @cached_property
    def summary(self) -> str:
        """Its docstring, up to the first section of it (Args, Raises, ...)."""
        if self.distribution is None:
            _, text = _definition(*self.path.split(":"))
        else:
            text = inspect.getdoc(self.load()) or ""
        return " ".join(re.split(r"\n+[A-Z]\w+:\n", inspect.cleandoc(text))[0].split())

    @property
    def record(self) -> dict[str, str] | None:
        """Who brings it, for a run to remember; None for medseg's own."""
        return None if self.distribution is None else {"distribution": self.distribution, "version": str(self.version)}


class Table(Mapping[str, Part]):
    """The parts of one kind: medseg's own, then those of installed packages.

    Args:
        kind: what one of them is called in a message.
        group: entry-point group by which packages add parts; also the package of the table.
        parts: name -> "package.module:Name", or a pair of that and its preset.
    """

    def __init__(self, kind: str, group: str, parts: Mapping[str, str | tuple[str, Mapping[str, Any]]]) -> None:
        self.kind, self.group = kind, group
        self.own = {
            name: Part(name, where) if isinstance(where, str) else Part(name, *where) for name, where in parts.items()
        }
        self._found: dict[str, Part] = {}

    def __getitem__(self, name: str) -> Part:
        if name in self.own:
            return self.own[name]
        if name not in self._found:
            for entry in self._entry_points().select(name=name):
                dist = entry.dist
                who = (dist.name, dist.version) if dist else ("unknown", "unknown")
                self._found[name] = Part(name, entry.value, {}, *who)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.own, *(entry.name for entry in self._entry_points())]))

    def _entry_points(self) -> EntryPoints:
        from importlib import metadata  # takes as long to import as all else here

        return metadata.entry_points(group=self.group)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        try:
            self[str(name)]
        except KeyError:
            return False
        return True

    def find(self, name: str, where: str = "") -> Part:
        """The part of that name.

        Args:
            where: key or option that names it, for the message.

        Raises:
            ConfigError: there is none; with the nearest name.
        """
        if name not in self:
            remedy = f"{did_you_mean(name, self)} Others come with packages (entry points {self.group!r})"
            raise ConfigError(Problem(where, f"unknown {self.kind} {name!r}", remedy))
        return self[name]


def signature_of(part: Callable[..., Any]) -> dict[str, Option]:
    """The arguments of a class or function that is imported.

    Raises:
        ConfigError: an annotation cannot be understood.
    """
    function = part.__init__ if isinstance(part, type) else part  # type: ignore[misc]
    package = part.__module__.partition(".")[0]
    texts: dict[str, str] = {}
    for one in reversed(inspect.getmro(part)) if isinstance(part, type) else [part]:
        if one.__module__.partition(".")[0] in ("medseg", package):
            texts |= described(one.__doc__ or "")
    try:
        kinds = typing.get_type_hints(function, localns=vocabulary(), include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(f"the signature of {part.__module__}.{part.__qualname__}: {error}") from error
    return {
        name: Option(name, kinds.get(name, Any), given.default, texts.get(name, ""))
        for name, given in inspect.signature(function).parameters.items()
        if name != "self" and given.kind not in (given.VAR_KEYWORD, given.VAR_POSITIONAL)
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
                found[target.id] = ast.literal_eval(value)
    return found


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
