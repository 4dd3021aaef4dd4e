"""JSON files of scores, as this version, an older or a newer one wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem


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
        document = json.loads(path.read_text(encoding="utf-8"))
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
