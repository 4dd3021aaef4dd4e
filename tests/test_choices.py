"""Options that are one of a few words: what a signature names is what the class takes, of every part of every table."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

import pytest

import medseg
from medseg.core.parts import Part, Table
from medseg.core.types import chosen
from medseg.networks import ON_ENCODER
from medseg.networks.analysis.pretended import Pretended


def tables() -> list[Table]:
    packages = [one.name for one in pkgutil.walk_packages(medseg.__path__, "medseg.") if one.ispkg]
    found = [one for name in packages for one in vars(import_module(name)).values() if isinstance(one, Table)]
    return list({table.group: table for table in found}.values())


def words_of(kind: Any) -> tuple[Any, ...]:
    """All that the `Literal`s in a type name."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(word for inner in get_args(kind) for word in words_of(inner))


PARTS = [*ON_ENCODER.values(), *(part for table in tables() for part in table.own.values())]
CHOICES = [
    (part, name, words_of(option.kind))
    for part in PARTS
    for name, option in part.options.items()
    if words_of(option.kind)
]


def made(part: Part, **options: Any) -> Any:
    needed = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    options |= {key: value for key, value in needed.items() if key in part.arguments}
    return Pretended.built(lambda: part.builder()(**options))


def test_they_are_found_in_several_tables() -> None:
    kinds = {part.path.split(".")[1] for part, _, _ in CHOICES}
    assert {"networks", "losses"} <= kinds
    assert {"norm", "upsample", "stem", "output_stride", "overlap"} <= {name for _, name, _ in CHOICES}


@pytest.mark.slow
@pytest.mark.parametrize(("part", "name", "words"), CHOICES, ids=lambda value: getattr(value, "name", str(value)))
def test_a_class_takes_the_words_that_its_signature_names_and_no_other(
    part: Part, name: str, words: tuple[Any, ...]
) -> None:
    with pytest.raises(ValueError, match="is unknown; known: ") as caught:
        made(part, **{name: 7 if isinstance(words[0], int) else "nonsense"})
    known = str(caught.value).rpartition("known: ")[2].split(", ")
    assert set(map(str, words)) <= set(known)
    for word in words:
        if part.name != "timm":  # which needs a package, and the name of a model
            made(part, **{name: word})


def test_chosen() -> None:
    assert chosen("a", Literal["a", "b"], "letter") == "a"
    with pytest.raises(ValueError, match=r"^letter 'c' is unknown; known: a, b$"):
        chosen("c", Literal["a", "b"], "letter")
