"""What a config's data are: channels and labels, from its card or from the data set itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from medseg.config.cards import load_card
from medseg.config.errors import ConfigError, Problem
from medseg.config.labels import Labels
from medseg.config.schema import Config
from medseg.data.cases import read_dataset


@dataclass(frozen=True)
class DataFacts:
    """Everything about a data set that the compiler needs; no case is read for it."""

    name: str
    channels: tuple[str, ...]
    labels: Labels
    modality: str = "MR"
    source: str = "a data set of the user's own"
    references: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As the run folder keeps it, so that a prediction needs no training data."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> DataFacts:
        """The inverse of `to_json`."""
        content = json.loads(text)
        labels = content.pop("labels")
        for name in ("regions", "colours"):
            labels[name] = {key: tuple(values) for key, values in labels[name].items()}
        for name in ("region_values", "also_ignored"):
            labels[name] = tuple(labels.get(name, ()))
        content["channels"], content["references"] = tuple(content["channels"]), tuple(content["references"])
        return cls(labels=Labels(**labels), **content)


def describe_data(config: Config) -> DataFacts:
    """The facts of the config's data, its own `regions` and `ignore_index` applied.

    Raises:
        ConfigError: neither `data.card` nor `data.root` is given, or a region or a target is named that is not there.
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
        )
    elif data.root is not None:
        dataset = read_dataset(Path(data.root), data.layout)
        modality = "CT" if any(channel.upper() == "CT" for channel in dataset.channels) else "MR"
        facts = DataFacts(dataset.name, dataset.channels, dataset.labels, modality)
    else:
        raise ConfigError(Problem("data", "neither root nor card is given", "add --set data.root=DIR"))

    labels = facts.labels
    if data.regions is not None and data.region_values is not None:
        regions = {name: tuple(values) for name, values in data.regions.items()}
        labels = replace(labels, regions=regions, region_values=tuple(data.region_values))
    if data.ignore_index is not None:
        labels = replace(labels, ignore_index=data.ignore_index)
    _check_names(config, labels)
    return replace(facts, labels=labels)


def _check_names(config: Config, labels: Labels) -> None:
    problems = []
    for name, values in labels.regions.items():
        unknown = sorted(set(values) - set(labels.values))
        if unknown:
            known = ", ".join(f"{value} {label}" for label, value in labels.classes.items())
            problems.append(Problem(f"data.regions.{name}", f"the labels have no value {unknown}", f"known: {known}"))
    for name in config.inference.keep_largest_component:
        if name not in labels.targets:
            known = ", ".join(labels.targets)
            problems.append(Problem("inference.keep_largest_component", f"no target {name!r}", f"known: {known}"))
    if problems:
        raise ConfigError(problems)
