"""Sections whose keys are the options of the part that they name."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import Field, SerializeAsAny

from medseg.config.document import Document
from medseg.config.section import PartSection, Section, as_data
from medseg.config.validate import validated
from medseg.core.errors import ConfigError
from medseg.core.parts import Table
from medseg.core.types import Count


class Shape(PartSection):
    table = Table(
        "network", "medseg.tests", {name: f"medseg.networks.{name}:{name.upper()}" for name in ("fpn", "fcn")}
    )
    name: str = "fpn"


class Whole(Section):
    shape: SerializeAsAny[Shape] = Field(default_factory=Shape.of)


def test_keys_are_the_options_of_the_part() -> None:
    assert Whole().shape.model_dump()["pyramid_channels"] == 256
    assert "pyramid_channels" not in Shape.of(name="fcn").model_dump()
    whole = Whole.model_validate({"shape": {"head": "mlp"}})
    assert whole.model_dump()["shape"]["head"] == "mlp"
    assert Whole.model_validate(whole.model_dump()) == whole


def test_null_is_the_default_of_the_part_whatever_it_is_called() -> None:
    assert Shape.of(pyramid_channels=None, of_another_part=None) == Shape.of()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "fpnn"}, "did you mean 'fpn'"),
        ({"pyramid_channel": 3}, "did you mean 'pyramid_channels'"),
        ({"name": "fcn", "pyramid_channels": 3}, "fcn has no option 'pyramid_channels'; it has auxiliary, dropout"),
        ({"smoothing": 3}, "write true or false"),
        ({"name": "fpnn", "anything": 3}, "unknown value 'fpnn'"),
    ],
)
def test_mistakes_name_the_nearest(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        validated(Whole, Document("x.yaml", {"shape": given}))
    assert len(caught.value.problems) == 1


def test_types_as_yaml_writes_them() -> None:
    assert as_data(Sequence[Count] | None) == list[Count] | None
    assert Shape.of(context=[1, 2]).model_dump()["context"] == [1, 2]
