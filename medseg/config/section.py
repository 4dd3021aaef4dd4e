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
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, create_model, model_validator
from pydantic_core import PydanticCustomError

from medseg.core.parts import Part, Table

IDENTIFIER = re.compile(r"^[A-Za-z]\w*$")

SomeSection = TypeVar("SomeSection", bound="Section")
Finding = tuple[tuple[str, ...], str]
"""Keys that do not go together, the one to report first (dotted, relative to their section), and what is wrong."""


class Section(BaseModel):
    """A strict, frozen part of the config: an unknown key is an error."""

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
        found = list(self.findings())
        if found:
            text = "; ".join(f"{keys[0]}: {what}" for keys, what in found)
            raise PydanticCustomError("combination", "{text}", {"text": text, "findings": found})
        return self


class PartSection(Section):
    """A section that names a part of `table`, and has the options of that part as further keys.

    An option that is null has the part's own default, as if it were not given. As a field of another section it is
    declared as `SerializeAsAny[...]`, so that the options are dumped too, and made by `of`, not by its constructor.

    `not_said` are arguments of the parts that no config sets; `written` are those that a config says in other words:
    name -> type, and what it means.

    Attributes:
        specialised: whether it is a section of one part, with the options of that.
        called, option_names: what messages call that part, and what it has.
    """

    table: ClassVar[Table]
    not_said: ClassVar[frozenset[str]] = frozenset()
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
        """The parts whose options a section with these keys has; None where it names one that is not there."""
        name = given.get("name", cls.model_fields["name"].default)
        return (cls.table[name],) if isinstance(name, str) and name in cls.table else None

    @classmethod
    def section_of(cls, given: Mapping[str, Any]) -> type[Self]:
        """The kind of section with these keys; where it names an unknown part, one with the keys of all parts."""
        parts = cls.parts_of(given)
        return _of_unknown_part(cls, given) if parts is None else _with_options(cls, parts)

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
    made = _made(section, parts, (*section.table.own, parts[0].name))
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
    own = {key: (Any, None) for key in unknown if IDENTIFIER.match(key) and not get_close_matches(key, known, n=1)}
    return _made(section, parts, tuple(section.table), **own)


def _made(section: type[PartSection], parts: Iterable[Part], names: tuple[str, ...], **more: Any) -> Any:
    """The section with a key for each option that it does not have itself, for parts of these names."""
    gone = section.model_fields.keys() | section.not_said
    fields = {name: field for name, field in _fields(parts).items() if name not in gone}
    for name, (kind, text) in section.written.items():
        if name in fields:
            fields[name] = (kind, Field(default=fields[name][1].default, description=text))
    fields["name"] = (Literal[tuple(dict.fromkeys(names))], section.model_fields["name"])
    made: Any = create_model(section.__name__, __base__=section, __doc__=section.__doc__, **fields, **more)
    made.specialised = True
    return made


def having(parts: Iterable[Part]) -> Callable[[type[SomeSection]], type[SomeSection]]:
    """Decorates a section that has the options of all these parts as further keys, whatever it says."""
    return keyed(_fields(parts))


def keyed(fields: Mapping[str, Any]) -> Callable[[type[SomeSection]], type[SomeSection]]:
    """Decorates a section that has these further keys: name -> type and default, as pydantic's `create_model` does."""

    def extended(section: type[SomeSection]) -> type[SomeSection]:
        module, text = section.__module__, section.__doc__
        return create_model(section.__name__, __base__=section, __module__=module, __doc__=text, **fields)

    return extended


def _fields(parts: Iterable[Part]) -> dict[str, Any]:
    """A key for each option of the parts, with its type, its default, and what it means."""
    return {
        name: (as_data(option.kind), Field(default=plain(option.default), description=option.help or None))
        for part in parts
        for name, option in part.options.items()
    }


def as_data(kind: Any) -> Any:
    """A type as YAML can write it: lists in the place of sequences and tuples, dictionaries of mappings."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[as_data(inner[0]), *inner[1:]]
    if origin in (Sequence, tuple):
        return list[as_data(inner[0])]  # type: ignore[misc]
    if origin is Mapping:
        return dict[inner[0], as_data(inner[1])]  # type: ignore[misc,valid-type]
    if origin in (Union, UnionType):
        return Union[tuple(map(as_data, inner))]  # noqa: UP007
    return list[as_data(inner[0])] if origin is list else kind  # type: ignore[misc]


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
