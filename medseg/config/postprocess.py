"""The keys of `inference` that clean a finished mask: `medseg postprocess` finds out which of them help.

They are done in the order in which they stand here (`inference/cleaning.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from medseg.config.section import Section
from medseg.core.types import Positive

WORDS = {
    "keep_largest_component": "largest component of {target}",
    "minimum_volume_ml": "components of {target} from {ml:g} ml",
    "minimum_total_ml": "{target} from {ml:g} ml in all",
    "fill_holes": "holes of {target} filled",
}


@dataclass(frozen=True)
class Step:
    """One step for one target; `ml` only where the step has a threshold."""

    kind: str
    target: str
    ml: float | None = None

    def __str__(self) -> str:
        return WORDS[self.kind].format(target=self.target, ml=self.ml)


class PostprocessConfig(Section):
    """Steps on the finished mask, target by target. What they take from a target becomes background, or, of a region,
    what is left of the regions around it."""

    keep_largest_component: list[str] = []
    """Targets of which only the largest connected component is kept."""
    minimum_volume_ml: dict[str, Positive] = {}
    """Target -> ml: its connected components that are smaller are removed. Three dimensions only."""
    minimum_total_ml: dict[str, Positive] = {}
    """Target -> ml: all of it is removed where a case has less, as enhancing tumour in BraTS. Three dimensions only."""
    fill_holes: list[str] = []
    """Targets whose enclosed holes are filled, as far as that takes no voxel from another target."""

    @property
    def steps(self) -> list[Step]:
        """All of them, in the order of the keys."""
        return [
            *(Step("keep_largest_component", target) for target in self.keep_largest_component),
            *(Step("minimum_volume_ml", target, ml) for target, ml in self.minimum_volume_ml.items()),
            *(Step("minimum_total_ml", target, ml) for target, ml in self.minimum_total_ml.items()),
            *(Step("fill_holes", target) for target in self.fill_holes),
        ]

    @property
    def cleaning(self) -> dict[str, Any]:
        """The steps that there are, as arguments of `inference.cleaning`."""
        return {key: value for key in WORDS if (value := getattr(self, key))}

    def named(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Every target that is named, and the keys where."""
        for step in self.steps:
            yield (step.kind,) if step.ml is None else (step.kind, step.target), step.target


def in_words(cleaning: Mapping[str, Any]) -> str:
    """The steps of `PostprocessConfig.cleaning` for a person."""
    return ", ".join(map(str, PostprocessConfig(**cleaning).steps))


Config = TypeVar("Config", bound=PostprocessConfig)


def with_step(config: Config, step: Step) -> Config:
    """The config with one more step; one of the same kind for the same target gives way."""
    before = getattr(config, step.kind)
    named = [*before, step.target] if step.ml is None else {**before, step.target: step.ml}
    return config.model_copy(update={step.kind: list(dict.fromkeys(named)) if step.ml is None else named})
