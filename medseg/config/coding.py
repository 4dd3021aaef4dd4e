"""Which values a saved mask has: the data set's own, BraTS's 0/1/2/4, or any that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from medseg.core.errors import ConfigError, Problem
from medseg.core.labels import Labels

BRATS = (2, 1, 4)  # oedema: whole tumour without core; necrosis and non-enhancing core; enhancing tumour
WAYS = "own, brats, or {target: value}"


def recode(labels: Labels, coding: str | Mapping[str, int]) -> dict[int, int]:
    """Value of a mask in the data set's own coding -> value in the one asked for; empty for `own`.

    `brats` (Menze et al. 2015, section III-C; 4 for the enhancing tumour as in the challenges until 2022) wants three
    regions, each inside the one before: what lies in the outermost alone becomes 2, in the middle one 1, in the
    innermost 4. The background stays 0.

    Args:
        coding: own, brats, `NAME=VALUE,...` with every target (so that it can be typed), or the same as a mapping.

    Raises:
        ConfigError: these labels cannot be written so.
    """
    if coding == "own":
        return {}
    own = labels.mask_values
    if coding == "brats":
        coding = _brats(labels, own)
    elif isinstance(coding, str):
        coding = _typed(coding)
    if set(coding) != set(own):
        given, expected = ", ".join(coding), ", ".join(own)
        raise ConfigError(Problem("inference.coding", f"has values for {given}", f"give one for each of {expected}"))
    if len(set(coding.values())) != len(coding) or min(coding.values()) < 1 or max(coding.values()) > 255:
        what = f"{list(coding.values())} must be different numbers from 1 to 255 (0 is the background)"
        raise ConfigError(Problem("inference.coding", what))
    return {own[name]: value for name, value in coding.items()}


def recoded(labels: Labels, values: Mapping[int, int]) -> Labels:
    """The labels as a mask that was written with `recode` shows them: the names of its values, for its header."""
    if not values:
        return labels
    classes = {name: values.get(value, 0) for name, value in labels.classes.items() if value == 0 or value in values}
    regions = {
        name: tuple(values[value] for value in members if value in values) for name, members in labels.regions.items()
    }
    order = tuple(values[value] for value in labels.region_values)
    return replace(labels, classes=classes, regions=regions, region_values=order, ignore_index=None, also_ignored=())


def _brats(labels: Labels, own: Mapping[str, int]) -> dict[str, int]:
    nested = sorted(labels.regions, key=lambda name: -len(labels.regions[name]))
    sets = [set(labels.regions[name]) for name in nested]
    if len(sets) != 3 or not sets[0] > sets[1] > sets[2]:
        what = "brats needs three regions, each inside the one before (whole tumour, core, enhancing tumour)"
        remedy = f"give a value for each instead: {', '.join(f'{name}: ...' for name in own)}"
        raise ConfigError(Problem("inference.coding", what, remedy))
    return dict(zip(nested, BRATS, strict=True))


def _typed(text: str) -> dict[str, int]:
    """`oedema=2,core=1` as a mapping."""
    pairs = [pair.rpartition("=") for pair in text.split(",")]
    if not all(name.strip() and value.strip().isdecimal() for name, _, value in pairs):
        remedy = f"expected {WAYS}; on the command line own, brats or TARGET=VALUE,TARGET=VALUE"
        raise ConfigError(Problem("inference.coding", f"unknown coding {text!r}", remedy))
    return {name.strip(): int(value) for name, _, value in pairs}
