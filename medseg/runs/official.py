"""A data set on disk against its card: is it there, is it the whole one, and if not, how to get it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from medseg.config.cards import Card, load_card
from medseg.core.errors import DataError, Problem
from medseg.config.schema import Config
from medseg.data.cases.dataset import Dataset, read_dataset


def check_official(config: Config) -> None:
    """Print to stderr which split that is used is not of the official size.

    Raises:
        DataError: there is no such data set at `data.root`; it says how to get it, as the card has it.
    """
    if config.data.card is None or config.data.root is None:
        return
    card = load_card(config.data.card)
    try:
        dataset = read_dataset(Path(config.data.root), config.data.layout)
    except DataError as error:
        if not card.obtain:
            raise
        raise DataError([*error.problems, Problem(f"how to get {card.title}", card.obtain)]) from error
    for problem in wrong_sizes(card, dataset, (config.data.training_split, config.data.validation_split)):
        print(f"note: {problem.where}: {problem.what}", file=sys.stderr)


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
