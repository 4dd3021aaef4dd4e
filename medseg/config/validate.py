"""Plain data to a pydantic model, or every mistake at once: where it is, what was got, and the nearest valid name."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medseg.config.document import Document, Keys, dotted
from medseg.config.names import UNKNOWN_NAME
from medseg.config.section import PartSection, kind_of
from medseg.core.errors import ConfigError, Problem, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

OTHERS = 3  # parts that an error names, at most
SECTION = "write a section: indented `key: value` lines"
REMEDIES = {
    "bool_type": "write true or false",
    "string_type": "write it in quotes",
    "int_type": "write a whole number",
    "float_type": "write a number, without quotes",
    "list_type": "write a list: [...]",
    "dict_type": SECTION,
    "missing": "this key is required",
}


@dataclass(frozen=True)
class _Fault:
    """One mistake: its keys, the others that it concerns (nothing is concluded from them), what, and the remedy."""

    keys: Keys
    concerned: tuple[Keys, ...]
    what: str
    remedy: str = ""
    missing: bool = False


def validated(model: type[Model], document: Document) -> Model:
    """The document as a `model`; raises ConfigError with every problem of its text, keys, values and combinations.

    pydantic looks at combinations of keys only where every single key is right. So what is wrong is reported, taken
    out, and the rest looked at again; what it then says about keys that were in doubt already is not repeated.
    """
    problems = list(document.problems)
    doubtful = {dotted(keys) for keys in document.refused}
    data = copy.deepcopy(document.data)
    for keys in document.refused:
        _take_out(data, keys)
    while True:
        result, faults = _look(model, data)
        fresh = [fault for fault in faults if dotted(fault.keys) not in doubtful]
        if not fresh:
            break
        meant = {path for fault in fresh if not fault.missing for path in fault.concerned}
        known = set(doubtful)
        for fault in fresh:
            paths = [dotted(path) for path in (fault.keys, *fault.concerned)]
            repeated = any(_overlap(one, other) for one in paths for other in known)
            if not repeated and not (fault.missing and fault.keys in meant):
                problems.append(Problem(document.where(fault.keys), fault.what, fault.remedy))
            doubtful.update(paths)
        for fault in fresh:
            for path in (fault.keys, *fault.concerned):
                _take_out(data, path)
        for fault in fresh:
            if fault.missing:
                _fill_in(data, fault.keys)
    if problems or result is None:
        raise ConfigError(sorted(problems, key=_line))
    return result


def _look(model: type[Model], data: dict[str, Any]) -> tuple[Model | None, list[_Fault]]:
    try:
        return model.model_validate(data, strict=True), []
    except ValidationError as error:
        found: dict[Keys, list[ErrorDetails]] = {}
        faults = []
        for details in error.errors(include_url=False):
            if details["type"] != "combination":
                found.setdefault(_keys(details, data), []).append(details)
                continue
            for names, what in details["ctx"]["findings"]:
                paths = [tuple(details["loc"]) + tuple(name.split(".")) for name in names]
                faults.append(_Fault(paths[0], tuple(paths[1:]), what))
        faults += [_fault(model, data, keys, errors) for keys, errors in found.items()]
        return None, [_with_dependent(model, data, fault) for fault in faults]


def _keys(details: ErrorDetails, data: Any) -> Keys:
    """Where the error is: pydantic's location, less the words with which it tells the alternatives of a union apart."""
    location = details["loc"]
    for depth, part in enumerate(location):
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if not inside:
            return location if details["type"] == "missing" else location[:depth]
        data = data[part]
    return location


def _fault(model: type[BaseModel], data: Any, keys: Keys, errors: list[ErrorDetails]) -> _Fault:
    first, got = errors[0], _short(errors[0]["input"])
    if first["type"] == "extra_forbidden":
        name, section = str(keys[-1]), _type_at(model, keys[:-1], data)
        remedy, nearest = _nearest_key(model, data, section, name)
        what = f"unknown key {name!r}"
        if getattr(section, "called", ""):
            what = f"{section.called} has no option {name!r}; it has {', '.join(section.option_names) or 'none'}"
            remedy = _other_part(section, keys) or ("" if remedy.startswith("known: ") else remedy)
        return _Fault(keys, tuple((*keys[:-1], *near) for near in nearest), what, remedy)
    if first["type"] == "model_type":
        return _Fault(keys, (), f"must be a section (got {got})", SECTION)
    if first["type"] == "missing":
        return _Fault(keys, (), f"{str(keys[-1])!r} is missing", REMEDIES["missing"], missing=True)
    if first["type"] == UNKNOWN_NAME:
        return _Fault(keys, (), f"unknown value {got}", first["ctx"]["remedy"])
    if first["type"] == "literal_error":
        names = [str(name) for name in get_args(_type_at(model, keys, data))]
        return _Fault(keys, (), f"unknown value {got}", did_you_mean(first["input"], names))
    if first["type"] in ("too_short", "too_long"):
        fewest, most = (str(first["ctx"].get(key)) for key in ("min_length", "max_length"))
        wanted = f"at least {fewest}" if first["type"] == "too_short" else f"at most {most}"
        return _Fault(keys, (), f"needs {wanted} entries (got {got})")
    if first["type"] == "unordered":
        return _Fault(keys, (), f"{got} {first['msg']}")
    if first["type"] == "string_pattern_mismatch":
        return _Fault(keys, (), f"must match {first['ctx']['pattern']} (got {got})")
    messages = dict.fromkeys(details["msg"].replace("Input should", "must") for details in errors)
    what = " or ".join(messages)
    return _Fault(keys, (), f"{what[0].lower()}{what[1:]} (got {got})", REMEDIES.get(first["type"], ""))


def _other_part(section: Any, keys: Keys) -> str:
    """What to do about a key that is an option of other parts than the one that its section names; "" if of none."""
    if not issubclass(section, PartSection):
        return ""
    *above, unknown = keys
    named, *_ = section.called.split()
    owners = [given for given in section.choices() if unknown in section.options_of(given)]
    for given in owners:
        if given["name"] == named:  # it is there on an encoder, or without
            more = given.keys() - {"name"}
            path = dotted((*above, *(more or section.choosing - {"name"})))
            return f"set {path}" if more else f"leave {path} out"
    names = [given["name"] for given in owners]
    others = ", ".join(names[:OTHERS]) + (", ..." if len(names) > OTHERS else "")
    return f"set {dotted((*above, 'name'))} to {others}" if names else ""


def _with_dependent(model: type[BaseModel], data: Any, fault: _Fault) -> _Fault:
    """The fault; where it concerns which part a section names, it concerns the options of that too."""
    more: list[Keys] = []
    for *above, last in (fault.keys, *fault.concerned):
        section, given = _type_at(model, tuple(above), data), data
        for key in above:
            given = _below(given, key)
        if isinstance(section, type) and issubclass(section, PartSection) and isinstance(given, dict):
            more += [(*above, key) for key in sorted(section.depending_on(str(last), map(str, given)))]
    return replace(fault, concerned=tuple(dict.fromkeys([*fault.concerned, *more])))


def _nearest_key(model: type[BaseModel], data: Any, section: Any, name: str) -> tuple[str, list[Keys]]:
    """What an unknown key was meant to be: a key of its section, or one of another section."""
    siblings = list(section.model_fields) if _is_model(section) else []
    everywhere = {".".join(path): path[-1] for path in _paths(model, data)}
    elsewhere = [path for path, last in everywhere.items() if last == name]
    close = get_close_matches(name, siblings, n=1)
    if elsewhere:
        return f"did you mean {' or '.join(map(_placed, elsewhere))}?", []
    if close:
        return f"did you mean {close[0]!r}?", [(close[0],)]
    similar = get_close_matches(name, set(everywhere.values()), n=1)
    if similar:
        elsewhere = [path for path, last in everywhere.items() if last == similar[0]]
        return f"did you mean {' or '.join(map(_placed, elsewhere))}?", []
    return did_you_mean(name, siblings), []


def _placed(path: str) -> str:
    return repr(path) if "." in path else f"{path!r}, outside of all sections"


def _paths(model: type[BaseModel], data: Any) -> Iterator[tuple[str, ...]]:
    """The keys of every value below a model."""
    for name, info in model.model_fields.items():
        inner, below = info.annotation, _below(data, name)
        if _is_model(inner):
            yield from ((name, *path) for path in _paths(kind_of(inner, below), below))
        else:
            yield (name,)


def _below(data: Any, key: Any) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def _type_at(annotation: Any, keys: Keys, data: Any) -> Any:
    """The type that a model declares at these keys, where `data` stands in its place."""
    while get_origin(annotation) not in (None, dict, list, Literal):  # Annotated[X, ...], X | None
        inner = get_args(annotation)
        annotation = inner[0] if get_origin(annotation) is Annotated else _alternative(inner, bool(keys))
    annotation = kind_of(annotation, data)
    if not keys:
        return annotation
    below = _below(data, keys[0])
    if _is_model(annotation):
        return _type_at(annotation.model_fields[str(keys[0])].annotation, keys[1:], below)
    return _type_at(get_args(annotation)[-1], keys[1:], below)


def _alternative(types: tuple[Any, ...], nested: bool) -> Any:
    kinds = [one for one in types if one is not type(None)]
    return (
        next((one for one in kinds if _is_model(one) or get_origin(one) in (dict, list)), kinds[0])
        if nested
        else kinds[0]
    )


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _take_out(data: Any, keys: Keys) -> None:
    """Remove the value at these keys, or the whole list that it stands in; nothing if it is not there."""
    for depth, key in enumerate(keys):
        if not isinstance(data, dict) or key not in data:
            return
        if depth == len(keys) - 1 or not isinstance(data[key], dict):
            del data[key]
            return
        data = data[key]


def _fill_in(data: Any, keys: Keys) -> None:
    for key in keys[:-1]:
        data = data[key]
    data[keys[-1]] = "missing"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _line(problem: Problem) -> int:
    """Sort by line; what has none (a `--set`) comes last."""
    line = re.search(r":(\d+)(?: |$)", problem.where)
    return int(line[1]) if line and not problem.where.startswith("--set") else 1_000_000
