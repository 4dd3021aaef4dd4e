"""JSON files that medseg wrote and anybody may have changed since: read through a schema, or refused with a remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medseg.core.errors import MedsegError, Problem, RunError
from medseg.core.files import readable
from medseg.core.sealed import SEAL, unsealed, without_seal


class Stored(BaseModel):
    """The content of such a file: exactly these keys and types; nothing is converted, no number is infinite or NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


SomeModel = TypeVar("SomeModel", bound=BaseModel)


def read_stored(
    path: Path,
    kind: type[SomeModel],
    what: str,
    remedy: str,
    error: type[MedsegError] = RunError,
    *,
    encoding: str = "utf-8",
) -> SomeModel:
    """The content of the file.

    Args:
        what: the file should hold, for the message: `no decision of medseg postprocess`.

    Raises:
        MedsegError: of the kind `error`: the file cannot be read, or is another one.
    """
    return parse_stored(_text(path, what, remedy, error, encoding), kind, str(path), what, remedy, error)


def read_sealed(
    path: Path,
    kind: type[SomeModel],
    what: str,
    remedy: str,
    error: type[MedsegError] = RunError,
    *,
    required: bool = True,
) -> SomeModel:
    """As `read_stored`, of a file that holds a digest of itself (`core/sealed.py`): to the last bit as it was written.

    Args:
        required: False takes a file without a digest too, from before there were any.
    """
    text = _text(path, what, remedy, error)
    try:
        content = unsealed(text, required=required)
    except (ValueError, RecursionError) as failure:
        raise error(Problem(str(path), f"holds {what}: it is damaged: {failure}", remedy)) from None
    return parse_stored(json.dumps(content), kind, str(path), what, remedy, error)


def _text(path: Path, what: str, remedy: str, error: type[MedsegError], encoding: str = "utf-8") -> str:
    try:
        return readable(path).read_text(encoding=encoding)
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "it is not UTF-8 text"
        raise error(Problem(str(path), f"holds {what}: {reason}", remedy)) from None


def parse_stored(
    text: str, kind: type[SomeModel], where: str, what: str, remedy: str, error: type[MedsegError] = RunError
) -> SomeModel:
    """As `read_stored`, of the text of the file `where`. Its digest, if it has one, must be its own."""
    try:
        content = without_seal(text)
    except ValueError as failure:
        mend = f"{remedy}; whoever changed it on purpose takes out its last key, {SEAL}"
        raise error(Problem(where, f"is not as it was written: {failure}", mend)) from None
    try:
        return kind.model_validate_json(content, strict=True)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        place = ": ".join([where, *([".".join(map(str, first["loc"]))] if first["loc"] else [])])
        more = len(failure.errors()) - 1
        also = f" (and {more} more mistakes)" if more else ""
        raise error(Problem(place, f"holds {what}: {first['msg']}{also}", remedy)) from None
