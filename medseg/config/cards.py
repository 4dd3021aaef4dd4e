"""Data set cards, one YAML file each in `datasets/`: what it is, where it comes from, and what its labels mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from medseg.config.document import read_document
from medseg.config.names import NameIn
from medseg.config.schema import Finding, Section
from medseg.config.validate import validated
from medseg.core.conventions import Convention
from medseg.core.labels import Labels
from medseg.core.plain import refusal
from medseg.core.resources import resource_file
from medseg.data.cases.layouts import LAYOUTS

Colour = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


class Code(Section):
    """A term of a public terminology, as DICOM-SEG wants it."""

    scheme: Literal["SCT", "NCIt", "DCM", "FMA"]
    value: str
    meaning: str


class ClassCard(Section):
    """One integer of the label files."""

    value: Annotated[int, Field(ge=0, le=65535)]
    colour: Colour | None = None
    """Red, green, blue. The shipped cards use the colour-blind-safe palette of Okabe and Ito (2008)."""
    code: Code | None = None
    evaluated: bool = True
    """Whether it is learnt and scored; if not, its pixels count nowhere, as if they had an ignored value."""
    category: str | None = None
    """The group of classes that Cityscapes scores as one."""
    instance_pixels: Annotated[float, Field(gt=0)] | None = None
    """Where its single objects are annotated: their mean size in the training images."""


class RegionCard(Section):
    """A union of classes that is scored by itself and may overlap others."""

    values: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Label values that belong to it."""
    mask_value: Annotated[int, Field(ge=1)]
    """Value that it writes into a mask; later regions overwrite earlier ones."""
    colour: Colour | None = None
    code: Code | None = None


class SplitCard(Section):
    """One part of the official split."""

    cases: Annotated[int, Field(ge=0)]
    labelled: bool
    file: str | None = None
    """The list of its cases, where it has one: a text file below the data set's folder."""
    note: str = ""


class PublishedResult(Section):
    """A figure that somebody published on this data set, and where."""

    method: str
    result: str
    source: str


class Card(Section):
    """One data set."""

    name: str
    title: str
    source: str
    """Where it can be had."""
    references: list[str] = Field(default_factory=list)
    """The papers to cite."""
    licence: str
    modality: str
    layout: Annotated[str, NameIn(LAYOUTS)]
    """How its folder is organised, as `data.layout` of a config."""
    spatial_dims: Literal[2, 3]
    channel_names: Annotated[list[str], Field(min_length=1)]
    """The channels of an image, in the order of its files."""
    classes: dict[str, ClassCard]
    """Name of a label -> its value, in the order of a network's channels; a medical background (value 0) first."""
    regions: dict[str, RegionCard] = Field(default_factory=dict)
    ignore_index: int | None = None
    splits: dict[str, SplitCard]
    convention: Convention = "medical"
    """By whose rules `medseg score` and the evaluation score it, unless told otherwise."""
    metrics: str
    """How results on this data set are averaged and reported by convention."""
    obtain: str = ""
    """How to get the data, and what is then `data.root`."""
    published: list[PublishedResult] = Field(default_factory=list)
    notes: str = ""
    """What surprises people."""

    def findings(self) -> Iterable[Finding]:
        values = [entry.value for entry in self.classes.values()]
        if self.convention == "medical" and (not values or values[0] != 0):
            yield ("classes",), "must begin with the background, value 0"
        if not any(entry.evaluated for entry in self.classes.values()):
            yield ("classes",), "none of them is evaluated"
        if self.ignore_index in values:
            yield ("ignore_index", "classes"), f"{self.ignore_index} is a class"
        if len(set(values)) != len(values):
            yield ("classes",), f"two classes have one value: {values}"
        for name in (*self.classes, *self.regions):
            if reason := refusal(name):
                yield ("classes",), reason
        for name, region in self.regions.items():
            if not set(region.values) <= set(values):
                yield (f"regions.{name}.values", "classes"), f"{region.values} are not all values of a class"

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the image's channels."""
        return tuple(self.channel_names)

    @property
    def labels(self) -> Labels:
        """What the integers of its label files mean."""
        evaluated = {name: entry for name, entry in self.classes.items() if entry.evaluated}
        coloured: dict[str, ClassCard | RegionCard] = {**evaluated, **self.regions}
        return Labels.from_plain(
            {
                "classes": {name: entry.value for name, entry in evaluated.items()},
                "regions": {name: region.values for name, region in self.regions.items()},
                "region_values": [region.mask_value for region in self.regions.values()],
                "ignore_index": self.ignore_index,
                "also_ignored": [entry.value for entry in self.classes.values() if not entry.evaluated],
                "background": 0 if self.convention == "medical" else None,
                "colours": {name: entry.colour for name, entry in coloured.items() if entry.colour},
            }
        )


def load_card(name: str) -> Card:
    """The card of this name in `datasets/`; raises ConfigError with the nearest name or all that is wrong in it."""
    return validated(Card, read_document(resource_file("datasets", name)))
