"""Parts by name: their options are their signatures, read without importing them."""

from __future__ import annotations

import pytest

from medseg.core.errors import ConfigError
from medseg.core.parts import (
    Part,
    Table,
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


def test_a_class_without_a_constructor_has_no_arguments() -> None:
    assert CLEANING["fill_holes"].arguments == {}
    with pytest.raises(LookupError, match="ValueError is not medseg's"):
        signature_in_source("tests.core.test_parts:Strange")


def test_a_summary_ends_where_the_arguments_begin() -> None:
    assert TABLE["pspnet"].summary.endswith(".")
    assert "Args" not in TABLE["pspnet"].summary
