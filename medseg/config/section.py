"""What the sections of a config are made of: strict, frozen models that report impossible combinations of keys."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, ClassVar, Self, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from medseg.config.names import NameIn
from medseg.core.errors import ConfigError
from medseg.core.parts import Part, Table
from medseg.core.signatures import Option

IDENTIFIER = re.compile(r"^[A-Za-z]\w*$")

SomeSection = TypeVar("SomeSection", bound="Section")
Finding = tuple[tuple[str, ...], str]
"""Keys that do not go together, the one to report first (dotted, relative to their section), and what is wrong."""


class Section(BaseModel):
    """A strict, frozen part of the config: an unknown key is an error.

    Attributes:
        broken: what is wrong with a section of this kind whatever its values are: a part that cannot be used.
    """

    broken: ClassVar[tuple[Finding, ...]] = ()
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def findings(self) -> Iterable[Finding]:
        """Every combination of keys that is impossible."""
        return ()

    @property
    def used(self) -> tuple[Part, ...]:
        """The parts that the section names."""
        return ()

    @model_validator(mode="after")
    def keys_go_together(self) -> Self:
        found = list(dict.fromkeys(self.broken or self.findings()))
        if found:
            text = "; ".join(f"{keys[0]}: {what}" for keys, what in found)
            raise PydanticCustomError("combination", "{text}", {"text": text, "findings": found})
        return self


class PartSection(Section):
    """A section that names a part of `table`, and has the options of that part as further keys.

    An option that is null has the part's own default, as if it were not given. As a field of another section it is
    declared as `SerializeAsAny[...]`, so that the options are dumped too, and made by `of`, not by its constructor.

    `ours` are keys of the section that are no arguments of a part, `choosing` those that say which part it is;
    `written` are arguments that a config says in other words: name -> type, and what it means.

    Attributes:
        specialised: whether it is a section of one part, with the options of that.
        called, option_names: what messages call that part, and what it has.
    """

    table: ClassVar[Table]
    ours: ClassVar[frozenset[str]] = frozenset({"name"})
    choosing: ClassVar[frozenset[str]] = frozenset({"name"})
    written: ClassVar[Mapping[str, tuple[Any, str]]] = {}
    specialised: ClassVar[bool] = False
    called: ClassVar[str] = ""
    option_names: ClassVar[tuple[str, ...]] = ()
    name: str

    @classmethod
    def of(cls, **keys: Any) -> Self:
        """The section with these keys, all others by default."""
        return cls.model_validate(keys, strict=True)

    @property
    def used(self) -> tuple[Part, ...]:
        return (self.table[self.name],)

    @classmethod
    def parts_of(cls, given: Mapping[str, Any]) -> tuple[Part, ...] | None:
        """The parts whose options a section with these keys has; None where it names none that can be used."""
        part = cls._named(given)
        return None if part is None or part.fault else (part,)

    @classmethod
    def _named(cls, given: Mapping[str, Any]) -> Part | None:
        name = given.get("name", cls.model_fields["name"].default)
        return cls.table.get(name) if isinstance(name, str) else None

    @classmethod
    def section_of(cls, given: Mapping[str, Any]) -> type[Self]:
        """The kind of section with these keys; where it names no part that can be used, one with the keys of all."""
        parts, named = cls.parts_of(given), cls._named(given)
        fault = named.fault if named else ""
        if parts is not None:
            try:
                return _with_options(cls, parts)
            except ConfigError as error:
                fault = error.line
        made = _of_unknown_part(cls, given)
        made.broken = ((("name",), fault),) if fault else ()
        return made

    @classmethod
    def choices(cls) -> Iterable[dict[str, str]]:
        """The keys that choose each of medseg's own parts."""
        return ({"name": name} for name in cls.table.own)

    @classmethod
    def options_of(cls, given: Mapping[str, Any]) -> set[str]:
        """The options of the part that these keys choose."""
        return {name for part in cls.parts_of(given) or () for name in part.options}

    @classmethod
    def depending_on(cls, key: str, given: Iterable[str]) -> set[str]:
        """Of the keys that are given those that mean something else, or nothing, for another value of this one."""
        return set(given) - cls.ours - {*cls.table.given, key} if key in cls.choosing else set()

    @model_validator(mode="wrap")
    @classmethod
    def with_options(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if cls.specialised or not isinstance(given, Mapping):
            return handler(given)
        told = {key: value for key, value in given.items() if value is not None}
        return kind_of(cls, told).model_validate(told, strict=True)


@cache
def _with_options(section: type[PartSection], parts: tuple[Part, ...]) -> Any:
    """The section with a key for each option of the parts that it does not have itself."""
    made = _made(section, parts)
    made.called = parts[0].name
    made.option_names = tuple(sorted(name for part in parts for name in part.options if name in made.model_fields))
    return made


def _of_unknown_part(section: type[PartSection], given: Mapping[str, Any]) -> Any:
    """The section with the keys of all parts, and with those that it is given and that resemble none of them.

    A misspelt key is found so beside a misspelt name, and nothing is said of what only the unknown part may know.
    """
    parts = section.table.own.values()
    known = section.model_fields.keys() | {name for part in parts for name in part.options}
    unknown = {str(key) for key in given} - known
    own = {key: (Any, None) for key in unknown if _free(section, key) and not get_close_matches(key, known, n=1)}
    return _made(section, parts, **own)


def _made(section: type[PartSection], parts: Iterable[Part], **more: Any) -> Any:
    """The section with a key for each option that it does not have itself."""
    fields: dict[str, Any] = fields_of(section, parts)
    fields["name"] = (Annotated[str, NameIn(section.table)], section.model_fields["name"])
    made: Any = create_model(section.__name__, __base__=section, __doc__=section.__doc__, **fields, **more)
    made.specialised = True
    return made


def having(parts: Iterable[Part]) -> Callable[[type[SomeSection]], type[SomeSection]]:
    """Decorates a section that has the options of all these parts as further keys, whatever it says."""
    return lambda section: keyed(fields_of(section, parts))(section)


def keyed(fields: Mapping[str, Any]) -> Callable[[type[SomeSection]], type[SomeSection]]:
    """Decorates a section that has these further keys: name -> type and default, as pydantic's `create_model` does."""

    def extended(section: type[SomeSection]) -> type[SomeSection]:
        module, text = section.__module__, section.__doc__
        return create_model(section.__name__, __base__=section, __module__=module, __doc__=text, **fields)

    return extended


def fields_of(section: type[Section], parts: Iterable[Part]) -> dict[str, tuple[Any, Any]]:
    """A key for each option of the parts that the section does not have itself: type, and default with what it means.

    Raises:
        ConfigError: an option cannot be a key: its name is taken, or no config can write it.
    """
    ours, written = getattr(section, "ours", ()), getattr(section, "written", {})
    fields: dict[str, tuple[Any, Any]] = {}
    for part in parts:
        for name, option in part.options.items():
            if name in section.model_fields and name not in ours:
                continue
            if name in ours or not _free(section, name):
                raise part.refused(f"has an option {name!r}, which no option can be called in a config")
            kind, text = written[name] if name in written else (_kind(part, option), option.help or None)
            fields[name] = (kind, Field(default=plain(option.default), description=text))
    return fields


def _free(section: type[Section], name: str) -> bool:
    """Whether a section can have a key of this name: an attribute of it would no longer be what it is."""
    return bool(IDENTIFIER.match(name)) and not any(name in vars(kind) for kind in section.__mro__)


def _kind(part: Part, option: Option) -> Any:
    """The type of a key.

    Raises:
        ConfigError: it is of another package, and a config cannot write it, or not its default.
    """
    if part.distribution is None:
        return as_data(option.kind)
    try:
        kind = as_data(option.kind)
        adapter = TypeAdapter(kind)
        if option.default is not None:
            dumped = adapter.dump_python(plain(option.default), mode="json", warnings=False)
            adapter.validate_python(dumped, strict=True)
    except Exception as error:  # of pydantic, or of a type of the other package
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).split(". ")[0]
        raise part.refused(f"has an option {option.name!r} that no config can write: {first}") from error
    return kind


def as_data(kind: Any) -> Any:
    """A type as YAML can write it: lists in the place of sequences and tuples, dictionaries of mappings."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        return Annotated[as_data(inner[0]), *inner[1:]]
    if origin in (Sequence, tuple, list):
        return list[as_data(inner[0])] if inner else list  # type: ignore[misc]
    if origin in (Mapping, dict):
        return dict[inner[0], as_data(inner[1])] if inner else dict  # type: ignore[misc,valid-type]
    if origin in (Union, UnionType):
        return Union[tuple(map(as_data, inner))]  # noqa: UP007
    return kind


def plain(value: Any) -> Any:
    """A default as YAML can write it."""
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value


def kind_of(section: Any, given: Any) -> Any:
    """The kind of section that these keys make of a declared one; anything else as it is."""
    if not (isinstance(section, type) and issubclass(section, PartSection)) or section.specialised:
        return section
    keys = given if isinstance(given, Mapping) else {}
    return section.section_of({key: value for key, value in keys.items() if value is not None})


def key_docstrings(section: type[Section]) -> dict[str, str]:
    """What stands below each key in the source; pydantic's own option would read it at every start."""
    found: dict[str, str] = {}
    # Of several of one name, all but the last were made of it, by adding the options of parts.
    written = {part.__qualname__: part for part in section.__mro__ if issubclass(part, Section)}
    for part in reversed(written.values()):
        (body,) = ast.parse(inspect.getsource(part)).body
        assert isinstance(body, ast.ClassDef)
        for key, text in pairwise(body.body):
            below = text.value if isinstance(text, ast.Expr) else None
            if isinstance(key, ast.AnnAssign) and isinstance(key.target, ast.Name) and isinstance(below, ast.Constant):
                found[key.target.id] = inspect.cleandoc(str(below.value))
    return found


def all_sections(section: type[Section] = Section) -> Iterable[type[Section]]:
    """Every kind of section that has been imported."""
    for kind in section.__subclasses__():
        yield kind
        yield from all_sections(kind)
