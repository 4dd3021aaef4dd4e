"""What options with one entry a level have in common, in networks and in the section of a config that names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def halving(levels: int) -> list[int]:
    """The strides of a network that is told none: the finest level has the image's size, each other half of it."""
    return [1] + [2] * (levels - 1)


def wrong_count(entries: Sequence[Any], levels: int, of: str = "widths") -> str:
    """What is wrong with the number of entries; empty where there is one a level."""
    return "" if len(entries) == levels else f"needs one entry a level: got {len(entries)} for {levels} {of}"


def per_level(name: str, entries: Sequence[Any], levels: int, of: str = "widths") -> list[Any]:
    """The entries of the option of that name, one a level.

    Args:
        of: what there are so many levels of, for the message.

    Raises:
        ValueError: there are more or fewer.
    """
    if wrong := wrong_count(entries, levels, of):
        raise ValueError(f"{name} {wrong}")
    return list(entries)
