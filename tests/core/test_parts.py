"""Parts by name: their options are their signatures, read without importing them."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

import medseg
from medseg.core.errors import ConfigError
from medseg.core.parts import Part, Table
from medseg.core.signatures import (
    constants_in_source,
    constants_of,
    described,
    signature_in_source,
    signature_of,
)
from medseg.inference.cleaning import CLEANING
from medseg.losses import LOSSES

TABLE = Table(
    "network",
    "medseg.networks",
    {
        "pspnet": "medseg.networks.pspnet:PSPNet",
        "multiscale": "medseg.networks.deeplabv1:DeepLabV1MultiScale",
        "preset": ("medseg.networks.pspnet:PSPNet", {"width": 8}),
    },
)


class Strange(ValueError):
    """Its arguments are those of a class that is not medseg's."""


@pytest.mark.parametrize("name", TABLE)
def test_the_source_says_what_the_class_says(name: str) -> None:
    part = TABLE[name]
    assert signature_in_source(part.path) == signature_of(part.load())


def test_inherited_constructors_are_found() -> None:
    assert TABLE["multiscale"].options["rate"].default == 12


def test_options_are_what_has_a_default() -> None:
    options = TABLE["pspnet"].options
    assert "in_channels" not in options
    assert options["bins"].default == (1, 2, 3, 6)
    assert options["bins"].help == "cells along each axis of the grids."
    assert "width" not in TABLE["preset"].options
    assert TABLE["preset"].builder().keywords == {"width": 8}


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'pspnet'") as caught:
        TABLE.find("pspnett", "network.name")
    assert "medseg.networks" in str(caught.value)


def test_descriptions_go_on_over_lines() -> None:
    arguments = "Args:\n    one, two: of\n        both.\n    three: alone.\n"
    text = f"A thing.\n\n{arguments}\nRaises:\n    X: y.\n"
    assert described(text) == {"one": "of both.", "two": "of both.", "three": "alone."}


def test_a_part_of_medseg_has_no_record() -> None:
    assert Part("a", "b:c").record is None
    assert Part("a", "b:c", distribution="d", version="1").record == {"distribution": "d", "version": "1"}


@pytest.mark.parametrize("part", [*LOSSES.own.values(), *CLEANING.own.values()], ids=lambda part: part.name)
def test_the_source_says_of_a_class_what_it_says_when_it_is_imported(part: Part) -> None:
    assert signature_in_source(part.path) == signature_of(part.load())
    assert constants_in_source(part.path) == constants_of(part.load())
    (imported,) = (Part(part.name, part.path, distribution="d", version="1"),)
    assert imported.summary == part.summary
    assert imported.constants == part.constants


def test_constants_of_a_base_are_its_own() -> None:
    part = CLEANING["minimum_total_ml"]
    assert part.constants["NEEDS_VOLUME"] is True
    assert part.constants["WORDS"] == "{target} from {ml:g} ml in all"
    assert CLEANING["fill_holes"].constants["NEEDS_VOLUME"] is False


class Listing:
    """Its first constant is no literal."""

    CHOICES = tuple(TABLE.own)
    LEVELS = 3


def test_constants_that_are_no_literals_are_not_read() -> None:
    assert constants_in_source("tests.core.test_parts:Listing") == {"LEVELS": 3}


def test_a_class_without_a_constructor_has_no_arguments() -> None:
    assert CLEANING["fill_holes"].arguments == {}
    with pytest.raises(LookupError, match="ValueError is not medseg's"):
        signature_in_source("tests.core.test_parts:Strange")


def test_a_summary_ends_where_the_arguments_begin() -> None:
    assert TABLE["pspnet"].summary.endswith(".")
    assert "Args" not in TABLE["pspnet"].summary


def tables() -> dict[str, Table]:
    """Every table of medseg's packages."""
    names = (one.name for one in pkgutil.walk_packages(medseg.__path__, "medseg.") if one.ispkg)
    found = {value.group: value for name in names for value in vars(import_module(name)).values() if is_table(value)}
    return dict(sorted(found.items()))


def is_table(value: object) -> bool:
    return isinstance(value, Table)


PARTS = [part for table in tables().values() for part in table.own.values()]


def test_there_are_tables() -> None:
    assert {"medseg.networks", "medseg.encoders", "medseg.losses"} <= tables().keys()


@pytest.mark.parametrize("path", sorted({part.path for part in PARTS}))
def test_the_source_of_every_part_says_what_its_class_says(path: str) -> None:
    assert signature_in_source(path) == signature_of(Part("x", path).load())


def test_presets_are_arguments() -> None:
    assert all(part.preset.keys() <= part.arguments.keys() for part in PARTS)


def test_reading_what_all_parts_take_imports_no_torch() -> None:
    code = """
import sys
from importlib import import_module
for module, name in {tables}:
    for part in getattr(import_module(module), name).own.values():
        part.options
print([name for name in ("torch", "monai", "SimpleITK") if name in sys.modules])
"""
    where = sorted(
        {
            (module.__name__, name)
            for module in list(sys.modules.values())
            if module.__name__.startswith("medseg.") and hasattr(module, "__path__")
            for name, value in vars(module).items()
            if is_table(value)
        }
    )
    assert len(where) >= len(tables())
    done = subprocess.run([sys.executable, "-c", code.replace("{tables}", repr(where))], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
