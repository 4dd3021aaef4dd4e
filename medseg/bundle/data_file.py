"""`data.json` of a run: what may stand in it, since whoever gives a model away may have written anything there."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from medseg.core.conventions import Convention
from medseg.core.stored import Stored, parse_stored

REMEDY = "bring the file back from a copy of the run; one of a newer medseg needs that version"

Value = Annotated[int, Field(ge=-(2**31), lt=2**31)]
"""Of a label file."""
Colour = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=3, max_length=3)]


class LabelsFile(Stored):
    """The arguments of `core.labels.Labels`; what an older version did not write has its default."""

    classes: Annotated[dict[str, Value], Field(min_length=1)]
    regions: dict[str, Annotated[list[Value], Field(min_length=1)]] = Field(default_factory=dict)
    region_values: list[Value] = Field(default_factory=list)
    ignore_index: Value | None = None
    also_ignored: list[Value] = Field(default_factory=list)
    background: Value | None = 0
    merged: dict[str, list[Value]] = Field(default_factory=dict)
    colours: dict[str, Colour] = Field(default_factory=dict)

    @model_validator(mode="after")
    def fit_together(self) -> Self:
        used = {value for group in self.regions.values() for value in group}
        for key, wrong in {
            "regions: have values that no class has": not used <= {*self.classes.values()},
            "region_values: not one for each region": len(self.region_values) != len(self.regions),
            "merged: names what is no class": not self.merged.keys() <= self.classes.keys(),
        }.items():
            if wrong:
                raise PydanticCustomError("labels", "{what}", {"what": key})
        return self


class DataFile(Stored):
    """The arguments of `bundle.facts.DataFacts`."""

    name: str
    channels: Annotated[list[str], Field(min_length=1)]
    labels: LabelsFile
    modality: str = "MR"
    source: str = ""
    references: list[str] = Field(default_factory=list)
    convention: Convention = "medical"
    title: str = ""
    licence: str = ""


def parse_data_file(text: str, where: str) -> DataFile:
    """Raises a RunError, which says what is wrong in the file `where`."""
    return parse_stored(text, DataFile, where, "not what medseg knows of a run's data", REMEDY)
