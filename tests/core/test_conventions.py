"""The names of the conventions stand in one place."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from medseg.cli import app
from medseg.config.cards import Card, load_card
from medseg.config.load import load_config
from medseg.core.conventions import CONVENTIONS
from medseg.core.errors import ConfigError
from medseg.core.resources import resource_names
from medseg.metrics import benchmarks, table


def test_every_convention_is_explained_by_who_scores_it() -> None:
    assert {*benchmarks.CONVENTIONS, *table.CONVENTIONS} == set(CONVENTIONS)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_can_be_asked_for(name: str) -> None:
    config = load_config("camvid", [f"evaluation.convention={name}"])
    assert config.evaluation.convention == name
    plain = load_card("camvid").model_dump()
    assert Card.model_validate(plain | {"convention": name}).convention == name


def test_the_help_and_the_guess_name_them_all() -> None:
    text = CliRunner().invoke(app, ["score", "--help"], terminal_width=120).stdout
    assert ", ".join(CONVENTIONS) in " ".join(text.replace("│", " ").split())
    with pytest.raises(ConfigError, match="did you mean 'cityscapes'"):
        load_config("camvid", ["evaluation.convention=cityscape"])
    assert {load_card(name).convention for name in resource_names("datasets")} <= set(CONVENTIONS)
