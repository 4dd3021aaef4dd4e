"""The keys of `inference` that clean a finished mask, one for each step of `medseg.inference.cleaning`, in its order:
`medseg postprocess` finds out which of them help.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import GenericAlias
from typing import Any, TypeVar

from pydantic import Field

from medseg.config.section import Section, keyed
from medseg.core.signatures import Option
from medseg.inference.cleaning import CLEANING


def argument_of(kind: str) -> Option | None:
    """What a step takes for each target; None where it is asked for by a list of targets."""
    arguments = CLEANING[kind].arguments
    if not arguments:
        return None
    (argument,) = arguments.values()
    return argument


@dataclass(frozen=True)
class Step:
    """One step for one target; `value` is its argument, where it has one."""

    kind: str
    target: str
    value: float | None = None

    @property
    def arguments(self) -> dict[str, float]:
        """The argument under its name."""
        argument = argument_of(self.kind) if self.value is not None else None
        return {} if argument is None or self.value is None else {argument.name: self.value}

    def __str__(self) -> str:
        words: str = CLEANING[self.kind].constants["WORDS"]
        return words.format(target=self.target, **self.arguments)


def _keys() -> dict[str, Any]:
    """A key for each step: a list of targets, or target -> its argument."""
    found: dict[str, Any] = {}
    for name, part in CLEANING.own.items():
        argument, text = argument_of(name), part.summary
        if argument is None:
            found[name] = (list[str], Field(default=[], description=text))
        else:
            found[name] = (GenericAlias(dict, (str, argument.kind)), Field(default={}, description=text))
    return found


@keyed(_keys())
class PostprocessConfig(Section):
    """Steps on the finished mask, target by target. What they take from a target becomes background, or, of a region,
    what is left of the regions around it."""

    @property
    def cleaning(self) -> dict[str, Any]:
        """The steps that there are, as arguments of `clean_mask`."""
        return {key: value for key in CLEANING.own if (value := getattr(self, key))}

    @property
    def steps(self) -> list[Step]:
        """All of them, in the order of the keys."""
        return [
            Step(kind, target, asked[target] if isinstance(asked, Mapping) else None)
            for kind, asked in self.cleaning.items()
            for target in asked
        ]

    @property
    def of_volumes(self) -> list[str]:
        """The keys of steps that there are and that make no sense of a picture."""
        return [key for key in self.cleaning if CLEANING[key].constants["NEEDS_VOLUME"]]

    def named(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Every target that is named, and the keys where."""
        for step in self.steps:
            yield (step.kind,) if step.value is None else (step.kind, step.target), step.target


def in_words(cleaning: Mapping[str, Any]) -> str:
    """The steps of `PostprocessConfig.cleaning` for a person."""
    return ", ".join(map(str, PostprocessConfig(**cleaning).steps))


Config = TypeVar("Config", bound=PostprocessConfig)


def with_step(config: Config, step: Step) -> Config:
    """The config with one more step; one of the same kind for the same target gives way."""
    before = getattr(config, step.kind)
    if step.value is None:
        return config.model_copy(update={step.kind: list(dict.fromkeys([*before, step.target]))})
    return config.model_copy(update={step.kind: {**before, step.target: step.value}})
