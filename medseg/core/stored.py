"""JSON files that medseg wrote and anybody may have changed since: read through a schema, or refused with a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from medseg.core.errors import MedsegError, Problem, RunError
from medseg.core.files import readable


class Stored(BaseModel):
    """The content of such a file: exactly these keys and types; nothing is converted, no number is infinite or NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


SomeModel = TypeVar("SomeModel", bound=BaseModel)


def read_stored(
    path: Path, kind: type[SomeModel], what: str, remedy: str, error: type[MedsegError] = RunError
) -> SomeModel:
    """The content of the file.

    Args:
        what: the file should hold, for the message: `no decision of medseg postprocess`.

    Raises:
        MedsegError: of the kind `error`: the file cannot be read, or is another one.
    """
    try:
        text = readable(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "it is not UTF-8 text"
        raise error(Problem(str(path), f"holds {what}: {reason}", remedy)) from None
    return parse_stored(text, kind, str(path), what, remedy, error)


def parse_stored(
    text: str, kind: type[SomeModel], where: str, what: str, remedy: str, error: type[MedsegError] = RunError
) -> SomeModel:
    """As `read_stored`, of the text of the file `where`."""
    try:
        return kind.model_validate_json(text, strict=True)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        place = ": ".join([where, *([".".join(map(str, first["loc"]))] if first["loc"] else [])])
        more = len(failure.errors()) - 1
        also = f" (and {more} more mistakes)" if more else ""
        raise error(Problem(place, f"holds {what}: {first['msg']}{also}", remedy)) from None
