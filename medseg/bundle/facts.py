"""What a config's data are: channels and labels, from its card or from the data set itself."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medseg.bundle.data_file import parse_data_file
from medseg.config.cards import load_card
from medseg.config.coding import recode
from medseg.config.dicom import DicomConfig
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, Problem, below
from medseg.core.labels import Labels, merge_classes
from medseg.data.cases.dataset import Dataset, read_dataset
from medseg.data.cases.kinds import CT, MR, PET, kind_of
from medseg.data.cases.unnamed import channel_names
from medseg.data.files.reading import ReadingRules, reading
from medseg.inference.colour import COLOUR_SCALES
from medseg.losses import LOSSES

BACKGROUND, REGION = "background", "region"  # what the first of two stages tells apart


@dataclass(frozen=True)
class DataFacts:
    """Everything about a data set that the compiler needs; no case is read for it."""

    name: str
    channels: tuple[str, ...]
    labels: Labels
    modality: str = "MR"
    source: str = "a data set of the user's own"
    references: tuple[str, ...] = ()
    convention: str = "medical"
    title: str = ""
    licence: str = ""

    @property
    def pictures(self) -> bool:
        """Natural images: every value of a label means something, and a mask is a PNG in the labels' own colours."""
        return self.labels.background is None

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """What kind of scan each channel is (CT, MR, PT), as far as its name says it, or the card of the data."""
        card = self.source != DataFacts.source and self.modality in (CT, MR, PET)
        return tuple(kind_of(name) or (self.modality if card else None) for name in self.channels)

    def to_json(self) -> str:
        """As the run folder keeps it, so that a prediction needs no training data."""
        return json.dumps(asdict(self) | {"labels": self.labels.to_plain()}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "data.json") -> DataFacts:
        """The inverse of `to_json`, of the text of the file `where`.

        Raises:
            RunError: the file is damaged, or was changed into what no run has.
        """
        content = parse_data_file(text, where).model_dump(exclude_unset=True)
        labels = Labels.from_plain(content.pop("labels"))
        lists: dict[str, Any] = {key: tuple(content.pop(key)) for key in ("channels", "references") if key in content}
        return cls(labels=labels, **lists, **content)


def of_region(facts: DataFacts) -> DataFacts:
    """The same data with one target, which holds all of theirs: what the first of two stages looks for.

    Raises:
        ConfigError: they have no background.
    """
    labels = facts.labels
    if labels.background is None:
        raise ConfigError(Problem("finder", "the labels have no background in which to find anything", "leave it out"))
    others = [value for value in labels.values if value not in (*labels.target_values, labels.background)]
    counted = {value: [raw for raw, one in labels.counts_as.items() if one == value] for value in labels.values}
    merged = {
        name: tuple(raw for value in values for raw in (value, *counted[value]))[1:]
        for name, values in ((BACKGROUND, [labels.background, *others]), (REGION, labels.target_values))
    }
    found = Labels(
        {BACKGROUND: labels.background, REGION: labels.target_values[0]},
        ignore_index=labels.ignore_index,
        also_ignored=labels.also_ignored,
        background=labels.background,
        merged={name: values for name, values in merged.items() if values},
    )
    return replace(facts, labels=found, convention="medical")


def network_channels(config: Config, facts: DataFacts) -> int:
    """Input channels of the network: those of the images, each with its neighbouring slices."""
    return len(facts.channels) * (config.data.context or 1)


def reading_rules(config: Config) -> ReadingRules:
    """How the config says that images are read."""
    data, dicom = config.data, config.data.dicom or DicomConfig()
    spacing = None if data.spacing_mm is None else tuple(map(float, data.spacing_mm))
    return ReadingRules(data.largest_file_gib, data.largest_picture_mp, spacing, dicom.modality, dicom.description)


def reading_as(config: Config) -> AbstractContextManager[None]:
    """Inside images may be as large, lie on such voxels, and series are chosen, as the config says: for each verb."""
    return reading(reading_rules(config))


def config_dataset(config: Config) -> Dataset:
    """The data set at the config's `data.root`; its cases may lack channels where a network is trained for it.

    Raises:
        DataError: the folder is no data set, or something is wrong with it.
    """
    data = config.data
    with reading_as(config):
        return read_dataset(Path(str(data.root)), data.layout, missing=config.training.lacks_channels)


def describe_data(config: Config, dataset: Dataset | None = None) -> DataFacts:
    """The facts of the config's data, its own `merge`, `regions` and `ignore_index` applied.

    Args:
        dataset: that at `data.root`; default: it is read where no card describes it.

    Raises:
        ConfigError: neither `data.card` nor `data.root` is given, or a class, region or target is named that is not
            there.
        DataError: the folder `data.root` is no data set.
    """
    data = config.data
    if data.card is not None:
        card = load_card(data.card)
        facts = DataFacts(
            name=card.name,
            channels=tuple(card.channels),
            labels=card.labels,
            modality=card.modality,
            source=card.source,
            references=tuple(card.references),
            convention=card.convention,
            title=card.title,
            licence=card.licence,
        )
    elif data.root is not None:
        dataset = dataset or config_dataset(config)
        if not dataset.labels.classes:
            dataset = _described(config, dataset)
        with reading_as(config):
            dataset = replace(dataset, channels=channel_names(dataset))
        convention = "medical" if dataset.labels.background == 0 else "voc"
        facts = DataFacts(dataset.name, dataset.channels, dataset.labels, _modality(dataset), convention=convention)
    else:
        raise ConfigError(Problem("data", "neither root nor card is given", "add --set data.root=DIR"))

    labels = facts.labels
    if data.merge is not None:
        if data.ignore_index in labels.values:
            what = f"{data.ignore_index} is the value of a class, and data.merge says what that counts as"
            raise ConfigError(Problem("data.ignore_index", what, "choose one of the two"))
        with below("data"):
            labels = merge_classes(labels, data.merge)
    if data.regions is not None and data.region_values is not None:
        regions = {name: tuple(values) for name, values in data.regions.items()}
        labels = replace(labels, regions=regions, region_values=tuple(data.region_values))
    if data.ignore_index is not None:
        labels = replace(labels, ignore_index=data.ignore_index)
    facts = replace(facts, labels=labels, convention=config.evaluation.convention or facts.convention)
    _check_names(config, labels)
    recode(labels, config.inference.coding)
    _check_pictures(config, facts)
    if config.training.lacks_channels and len(facts.channels) == 1:
        what = f"the images have one channel, {facts.channels[0]}, and it cannot be taken out"
        raise ConfigError(Problem("training.channel_dropout", what, "leave it at 0"))
    return facts


def _modality(dataset: Dataset) -> str:
    """CT where a channel is called so; RGB or image of pictures, which say nothing of how they were made; else MR."""
    if any(channel.upper() == "CT" for channel in dataset.channels):
        return "CT"
    cases = dataset.cases or dataset.unlabelled
    if dataset.labels.background is None or (cases and cases[0].is_picture):
        return "RGB" if len(dataset.channels) == 3 else "image"
    return "MR"


def _described(config: Config, dataset: Dataset) -> Dataset:
    """A data set that does not say what its labels mean, with `data.classes` and what its images show."""
    if config.data.classes is None:
        what = f"{dataset.root} does not say what the values of its masks mean"
        remedy = "add data.card, or data.classes: {name: value, ...}; `medseg plan` finds the values"
        raise ConfigError(Problem("data", what, remedy))
    medical = config.evaluation.convention == "medical" or not dataset.natural
    labels = Labels(dict(config.data.classes), background=0 if medical else None)
    if medical and 0 not in labels.values:
        raise ConfigError(Problem("data.classes", "has no background", "the value 0 is the background"))
    return replace(dataset, labels=labels)


def _check_pictures(config: Config, facts: DataFacts) -> None:
    """Raise a ConfigError for what fits pictures only, or exclusive classes only, and is asked of others."""
    problems = []
    if config.data.context is not None and config.preprocessing.colours in COLOUR_SCALES:
        what = "scales the colours of pictures, and data.context is for volumes"
        problems.append(Problem("preprocessing.normalization", what, "set it to zscore"))
    if len(facts.channels) != 3:
        colours = f"is for red, green and blue, but the images have {len(facts.channels)} channel(s)"
        if config.preprocessing.colours in COLOUR_SCALES:
            problems.append(Problem("preprocessing.normalization", colours, "set it to zscore"))
        if config.augmentation.photometric is not None and config.augmentation.crops:
            problems.append(Problem("augmentation.photometric", colours, "set it to null"))
    each = config.preprocessing.normalization
    if isinstance(each, list) and len(each) != len(facts.channels):
        what = f"names {len(each)}, but the images have {len(facts.channels)} channel(s): {', '.join(facts.channels)}"
        problems.append(Problem("preprocessing.normalization", what, "give one for each channel, or one word for all"))
    if facts.labels.regions:
        able = " or ".join(name for name, part in LOSSES.own.items() if "regions" in part.arguments)
        for key, asked in {
            "loss.name": not config.loss.takes("regions"),
            "evaluation.convention": facts.convention != "medical",
        }.items():
            if asked:
                what = "is for exclusive classes, but the labels have overlapping regions"
                problems.append(Problem(key, what, f"use {able} and the medical convention"))
    weights = config.loss.weights_of_classes()
    if isinstance(weights, dict) and set(weights) != set(facts.labels.classes):
        known = ", ".join(facts.labels.classes)
        problems.append(Problem("loss.class_weights", f"names {', '.join(weights)}", f"expected every one of {known}"))
    if problems:
        raise ConfigError(problems)


def _check_names(config: Config, labels: Labels) -> None:
    problems = []
    for name, values in labels.regions.items():
        unknown = sorted(set(values) - set(labels.values))
        if unknown:
            known = ", ".join(f"{value} {label}" for label, value in labels.classes.items())
            problems.append(Problem(f"data.regions.{name}", f"the labels have no value {unknown}", f"known: {known}"))
    for name, value in labels.mask_values.items() if labels.regions else ():
        values = labels.regions[name]
        inner = [other for other in labels.regions.values() if set(other) < set(values)]
        alone = sorted(set(values).difference(*inner))
        if alone and value not in alone:  # a mask would say something else than the label files
            what = f"{value} for {name}, but in the label files {name} alone is {' or '.join(map(str, alone))}"
            problems.append(Problem("data.region_values", what, "another coding of the masks: inference.coding"))
    named = [(".".join(("inference", *keys)), name) for keys, name in config.inference.named()]
    named += [("evaluation.lesions", name) for name in config.evaluation.lesions]
    known = ", ".join(labels.targets)
    problems += [
        Problem(key, f"no target {name!r}", f"known: {known}") for key, name in named if name not in labels.targets
    ]
    if config.inference.cleaning and not labels.regions and 0 not in labels.values:
        what = "the labels have no value 0 for what is removed from a mask"
        problems.append(Problem(f"inference.{next(iter(config.inference.cleaning))}", what, "take the key out"))
    if problems:
        raise ConfigError(problems)
