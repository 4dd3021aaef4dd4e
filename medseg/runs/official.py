"""A data set on disk against its card: is it there, is it the whole one, and if not, how to get it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from medseg.bundle.facts import config_dataset
from medseg.config.cards import Card, load_card
from medseg.config.schema import Config
from medseg.core.errors import ConfigError, DataError, Problem
from medseg.data.cases.dataset import Dataset
from medseg.engine.device import speaks


def read_data(config: Config) -> Dataset:
    """The data set at `data.root`; which split that is used is not of the official size, is printed to stderr.

    Raises:
        ConfigError: `data.root` is not given.
        DataError: there is no such data set; it says how to get it, as the card has it.
    """
    if config.data.root is None:
        raise ConfigError("data.root: the folder of the data set is not given", "add --set data.root=DIR")
    card = None if config.data.card is None else load_card(config.data.card)
    try:
        dataset = config_dataset(config)
    except DataError as error:
        if card is None or not card.obtain:
            raise
        raise DataError([*error.problems, Problem(f"how to get {card.title}", card.obtain)]) from error
    if card is not None and speaks():
        for problem in wrong_sizes(card, dataset, (config.data.training_split, config.data.validation_split)):
            print(f"note: {problem.where}: {problem.what}", file=sys.stderr)
    return dataset


def wrong_sizes(card: Card, dataset: Dataset, splits: Iterable[str] | None = None) -> list[Problem]:
    """The splits (default: all of the card) of which not as many cases are on disk as the card says."""
    problems = []
    for name in dict.fromkeys(card.splits if splits is None else splits):
        if not dataset.splits or name not in card.splits or not card.splits[name].labelled:
            continue
        found, expected = len(dataset.splits.get(name, ())), card.splits[name].cases
        if found != expected:
            what = f"{found} labelled cases on disk, the official split has {expected}"
            problems.append(Problem(f"{card.name}, split {name}", what, card.obtain))
    return problems
