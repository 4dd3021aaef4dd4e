"""Parts by name: their options are their signatures, read without importing them."""

from __future__ import annotations

import pytest

from medseg.core.errors import ConfigError
from medseg.core.parts import Part, Table, described, signature_in_source, signature_of

TABLE = Table(
    "network",
    "medseg.networks",
    {
        "pspnet": "medseg.networks.pspnet:PSPNet",
        "multiscale": "medseg.networks.deeplab:DeepLabV1MultiScale",
        "preset": ("medseg.networks.pspnet:PSPNet", {"width": 8}),
    },
)


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
