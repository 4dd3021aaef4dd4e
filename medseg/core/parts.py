"""Parts that a config names: networks, encoders, losses, layouts, writers, ...

Each package has an explicit table of its parts in its `__init__`, name -> where the class stands, and installed
packages may add to it by entry points of the same group; a name of medseg's own stays medseg's. A part of medseg's own
is imported when it is built, not when it is named. Its options are the arguments of its class that have a default: the
signature is the only place where they stand. That of another package's part is only known once it is imported, so a
config that names one imports it.

    NETWORKS = Table("network", "medseg.networks", {"pspnet": "medseg.networks.pspnet:PSPNet"})
    NETWORKS["pspnet"].options         # {"bins": Option(...), ...}, without importing torch
    NETWORKS["pspnet"].load()          # the class
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from medseg.core.errors import ConfigError, Problem, did_you_mean
from medseg.core.signatures import (
    Option,
    constants_in_source,
    constants_of,
    docstring_in_source,
    signature_in_source,
    signature_of,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints


@dataclass(frozen=True)
class Part:
    """A class or function with a name.

    Args:
        path: "package.module:Name".
        preset: arguments that go with the name, as `depths=(2, 2, 2, 2)` with resnet18.
        distribution, version: of the installed package that brings it; None for medseg's own.
        table: the one that it is of.
        rivals: further installed packages that bring one of this name, with their versions.
    """

    name: str
    path: str
    preset: Mapping[str, Any] = field(default_factory=dict, hash=False)
    distribution: str | None = None
    version: str | None = None
    table: Table | None = field(default=None, compare=False, repr=False)
    rivals: tuple[str, ...] = ()

    def load(self) -> Any:
        """The class or function itself, without its preset.

        Raises:
            ConfigError: it is of another package, and cannot be imported, or two packages bring it.
        """
        module, _, name = self.path.partition(":")
        if self.distribution is None:
            return getattr(import_module(module), name)
        if self.rivals:
            raise self.refused(f"comes with {', '.join(self.rivals)} too", "uninstall all but one of these packages")
        try:
            return attrgetter(name)(import_module(module))
        except Exception as error:  # whatever the code of another package raises
            raise self.refused(f"cannot be imported: {type(error).__name__}: {error}") from error

    def refused(self, what: str, remedy: str = "") -> ConfigError:
        """The error that says what is wrong with it, and whose it is."""
        kind = "part" if self.table is None else self.table.kind
        whose = f" of {self.distribution} {self.version}" if self.distribution else ""
        remedy = remedy or f"correct {self.path}, or choose another {kind}"
        return ConfigError(f"{kind} {self.name!r}{whose} {what}", remedy)

    def builder(self) -> Callable[..., Any]:
        """What is called to make one: the class, with its preset."""
        return partial(self.load(), **self.preset) if self.preset else self.load()

    @cached_property
    def arguments(self) -> dict[str, Option]:
        """Every argument but `self`, positional ones too; medseg's own are read from the source, not imported.

        Raises:
            ConfigError: it is of another package, and cannot be imported, or not be called as its table's parts are.
        """
        if self.distribution is None:
            return signature_in_source(self.path)
        part = self.load()
        if not callable(part):
            raise self.refused("is neither a class nor a function")
        try:
            found = signature_of(part)
            call = inspect.signature(part)
        except Exception as error:  # annotations are code too
            raise self.refused(f"has a signature that cannot be read: {error}") from error
        told = [] if self.table is None else [*self.table.given, *self.table.asked]
        told += [name for name in self._offered if name in found]
        try:
            call.bind(**dict.fromkeys(told))
        except TypeError as error:
            how = f"with {', '.join(told)}" if told else "without arguments"
            raise self.refused(f"cannot be called {how}: {error}") from error
        return found

    @property
    def _offered(self) -> tuple[str, ...]:
        return () if self.table is None else self.table.offered

    @cached_property
    def options(self) -> dict[str, Option]:
        """What a config can set: the arguments that have a default, are not preset, and not given by medseg."""
        ours = {*self.preset, *self._offered, *(() if self.table is None else self.table.given)}
        return {
            name: option
            for name, option in self.arguments.items()
            if name not in ours and option.default is not inspect.Parameter.empty
        }

    @cached_property
    def fault(self) -> str:
        """Why it cannot be used, on one line; "" where it can. Only parts of other packages are looked at."""
        if self.distribution is not None:
            try:
                self.arguments  # noqa: B018
            except ConfigError as error:
                return error.line
        return ""

    @cached_property
    def constants(self) -> dict[str, Any]:
        """What the class says of itself: the names in capitals that it, or a base, sets to literals."""
        return constants_in_source(self.path) if self.distribution is None else constants_of(self.load())

    @cached_property
    def summary(self) -> str:
        """Its docstring, up to the first section of it (Args, Raises, ...)."""
        text = docstring_in_source(self.path) if self.distribution is None else inspect.getdoc(self.load()) or ""
        return " ".join(re.split(r"\n+[A-Z]\w+:\n", inspect.cleandoc(text))[0].split())

    @property
    def record(self) -> dict[str, str] | None:
        """Who brings it, for a run to remember; None for medseg's own."""
        return None if self.distribution is None else {"distribution": self.distribution, "version": str(self.version)}


class Table(Mapping[str, Part]):
    """The parts of one kind: medseg's own, then those of installed packages.

    Args:
        kind: what one of them is called in a message.
        group: entry-point group by which packages add parts.
        parts: name -> "package.module:Name", or a pair of that and its preset.
        given: arguments that each of them is called with; they are no options.
        asked: options that each of them must have, since medseg sets them.
        offered: arguments that it is called with if it has them; they are no options.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        parts: Mapping[str, str | tuple[str, Mapping[str, Any]]],
        *,
        given: tuple[str, ...] = (),
        asked: tuple[str, ...] = (),
        offered: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.group = kind, group
        self.given, self.asked, self.offered = given, asked, offered
        pairs = {name: (where, {}) if isinstance(where, str) else where for name, where in parts.items()}
        self.own = {name: Part(name, path, preset, table=self) for name, (path, preset) in pairs.items()}
        self._found: dict[str, Part] = {}

    def __getitem__(self, name: str) -> Part:
        if name in self.own:
            return self.own[name]
        if name not in self._found:
            entries = [entry for entry in self._entry_points() if entry.name == name]
            who = [(entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "unknown") for entry in entries]
            for entry, whose in zip(entries, who, strict=True):
                rivals = tuple(sorted({" ".join(other) for other in who if other != whose}))
                self._found[name] = Part(name, entry.value, {}, *whose, table=self, rivals=rivals)
        return self._found[name]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

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
            raise ConfigError(Problem(where, f"unknown {self.kind} {name!r}", self.instead(name)))
        return self[name]

    def instead(self, name: str, others: Iterable[str] = ()) -> str:
        """What to do about a name that is not there.

        Args:
            others: words that may stand in the place of a name.
        """
        nearest = did_you_mean(name, [*others, *self])
        end = "" if nearest.endswith("?") else "."
        return f"{nearest}{end} Others come with packages (entry points {self.group!r})"
