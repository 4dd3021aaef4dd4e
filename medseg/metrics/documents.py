"""JSON files of scores, as this version, an older or a newer one wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem
from medseg.core.files import readable


def check_types(row: Mapping[str, Any], **types: tuple[type, ...]) -> None:
    """Raise a ValueError where a row of such a file has something else than one of these types; numbers are finite."""
    for name, allowed in types.items():
        value = row[name]
        if type(value) not in allowed or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{name} is {value!r}, expected {' or '.join(one.__name__ for one in allowed)}")


TEXT, COUNT, NUMBER, MAYBE = (str,), (int,), (int, float), (int, float, type(None))


@contextmanager
def read_document(path: Path, schema: str) -> Iterator[dict[str, Any]]:
    """The document of a file; inside it too, what does not have the form of such a file is a DataError.

    Args:
        schema: "medseg-name/number". The number says which form the file has; those up to this one are understood.

    Raises:
        DataError: a missing or foreign file, or a later form.
    """
    name, _, number = schema.partition("/")
    try:
        document = json.loads(readable(path).read_text(encoding="utf-8"))
        found, _, form = str(document["schema"]).partition("/")
        if found != name or not form.isdigit():
            raise ValueError(f"schema {document['schema']!r}, expected {schema!r}")
        if int(form) > int(number):
            what = f"was written by a newer medseg, in the form {document['schema']!r}; this one knows {schema!r}"
            raise DataError(Problem(str(path), what, "update medseg, or run medseg evaluate again"))
        yield document
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            Problem(str(path), f"not a {name.removeprefix('medseg-')} table: {what}", "run medseg evaluate again")
        ) from error
