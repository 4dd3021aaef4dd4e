"""What the values of masks mean, said by any of: a card, a card's file, a `dataset.json`, a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medseg.bundle.facts import reading_rules
from medseg.config.cards import Card, load_card
from medseg.config.document import read_document
from medseg.config.validate import validated
from medseg.core.errors import ConfigError, DataError, Problem
from medseg.core.labels import Labels
from medseg.core.resources import resource_names
from medseg.data.cases.layouts import AUTO
from medseg.data.cases.layouts.description import FILE, JSON, labels_of, read_description
from medseg.data.files.reading import ReadingRules
from medseg.runs.folder import CONFIG, read_run

CARDS = (".yaml", ".yml")


@dataclass(frozen=True)
class Described:
    """Names and values of masks.

    Args:
        layout: how the files of labels and masks are named, see `data.cases.masks`.
        convention: by whose rules they are scored, where nobody says otherwise.
        card: with all that a benchmark needs, where there is one.
        rules: how a run reads images, and so masks on their grids; None: nothing says it.
    """

    name: str
    labels: Labels
    layout: str
    convention: str
    card: Card | None = None
    rules: ReadingRules | None = None


def described(dataset: str) -> Described:
    """Of the name of a card, or the path of a card (YAML), of a `dataset.json` or its folder, or of a run.

    Raises:
        ConfigError: it is none of them.
        DataError, RunError: it is one, and damaged.
    """
    path = Path(dataset).expanduser()
    if dataset not in resource_names("datasets"):
        if (path / CONFIG).is_file() or (path / "fold_0" / CONFIG).is_file():
            return _of_run(path if (path / CONFIG).is_file() else path / "fold_0")
        file = path / FILE if path.is_dir() else path
        if file.is_file() and file.name.lower().endswith(JSON):
            return _of_description(file)
        if file.is_file() and file.name.lower().endswith(CARDS):
            return _of_card(validated(Card, read_document(file)))
        if path.exists():
            what = f"{dataset} says nothing of what masks mean"
            raise ConfigError(what, f"give a card, a {FILE} (or its folder), or the folder of a run")
    return _of_card(load_card(dataset))


def _of_card(card: Card) -> Described:
    return Described(card.name, card.labels, card.layout, card.convention, card)


def _of_description(file: Path) -> Described:
    problems: list[Problem] = []
    description = read_description(file)
    if "labels" not in description:
        raise DataError(Problem(str(file), "does not say what the values of labels mean", 'it needs "labels"'))
    labels = labels_of(description, str(file), problems)
    if problems:
        raise DataError(problems)
    name = description.get("name")
    return Described(name if isinstance(name, str) and name else file.parent.name, labels, "nnunet", "medical")


def _of_run(run: Path) -> Described:
    trained = read_run(run)
    facts, layout, rules = trained.facts, trained.config.data.layout, reading_rules(trained.config)
    card = None if trained.config.data.card is None else load_card(trained.config.data.card)
    if card is not None and card.labels == facts.labels:
        return replace(_of_card(card), rules=rules)
    layout = "nnunet" if layout == AUTO else layout
    return Described(facts.name, facts.labels, layout, facts.convention, rules=rules)
