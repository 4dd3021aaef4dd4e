"""JSON that says of itself whether it is what was written: a digest of the content stands in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"  # the last key


def sealed(content: Mapping[str, Any], *, indent: int | None = 1) -> str:
    """The content as JSON, one line at the end, with its digest."""
    return json.dumps({**content, SEAL: data_digest(content)}, indent=indent) + "\n"


def unsealed(text: str, *, indent: int | None = 1, required: bool = True) -> dict[str, Any]:
    """The content of `sealed`, down to the last byte of the text.

    Args:
        required: False takes an object without a digest as it is: a file from before there were any. Whoever asks for
            that checks that there is no unknown key, since a damaged `sha256` would be one.

    Raises:
        ValueError: it is no JSON object, has no digest, or was changed since it was written.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("expected a JSON object")
    said = content.pop(SEAL, None)
    if said is None and not required:
        return content
    if said is None:
        raise ValueError("has no digest of its content")
    if said != data_digest(content) or text != sealed(content, indent=indent):
        raise ValueError("its content is not that of its digest")
    return content


def without_seal(text: str) -> str:
    """The JSON without its digest, of a file that people may write or lay out anew; as it is, where it has none.

    Raises:
        ValueError: its content is not that of its digest.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # whoever reads it says what is wrong
        return text
    if not isinstance(content, dict) or SEAL not in content:
        return text
    if content.pop(SEAL) != data_digest(content):
        raise ValueError("its content is not that of its digest")
    return json.dumps(content)


def data_digest(content: Any) -> str:
    """SHA-256 of plain data (dicts, lists, numbers, text), whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
