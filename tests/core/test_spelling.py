"""Types and values in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from medseg.core.spelling import spelled, written
from medseg.core.types import Count, Counts, Norm, Share, Steps


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Count, "whole number >= 1"),
        (Share | None, "number >= 0, < 1 | null"),
        (Counts, "list of whole number >= 1"),
        (Steps, "list of (whole number >= 1 | list of whole number >= 1)"),
        (Literal[8, 16], "8 | 16"),
        (Norm | Literal["group32"], "instance | group | batch | syncbatch | none | group32"),
        (bool, "true | false"),
        (Mapping[str, Any], "section"),
        (Any, "anything"),
    ],
)
def test_types(kind: Any, words: str) -> None:
    assert spelled(kind) == words


def test_values() -> None:
    assert written(((1, 2), None, True, 0.5, "batch")) == "[[1, 2], null, true, 0.5, batch]"
