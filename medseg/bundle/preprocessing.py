"""Preprocessing as data in MONAI's bundle language; of two stages, with the crop to the region of the second one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.transforms import Compose

from medseg.bundle import components as parts
from medseg.bundle.facts import DataFacts, of_region
from medseg.bundle.language import Code, Component, target
from medseg.config.schema import Config
from medseg.config.stages import first_stage
from medseg.data.cases.values import meanings
from medseg.data.training.region import CropToLabelledd
from medseg.data.training.transforms import Normalized, Step, preprocessing_steps
from medseg.engine.finder import CropToFoundd


def preprocessing(config: Config, facts: DataFacts, *, finder: str | None = None) -> Component:
    """From files to tensors.

    Args:
        finder: file of the weights of the first of two stages, where the config has them, which says what the second
            one sees; None: the labels say it, to train it.
    """
    steps = _preprocessing_steps(config, facts, _region(config, facts, finder), judged=finder is None)
    return target(Compose, transforms=[target(step, **arguments) for step, arguments in steps])


def loading(config: Config, facts: DataFacts) -> Any:
    """What reads a case for training, or refuses it: the first step of `preprocessing`."""
    kind, options = _preprocessing_steps(config, facts, None, judged=True)[0]
    return kind(**options)


def _preprocessing_steps(config: Config, facts: DataFacts, region: Step | None, *, judged: bool) -> list[Step]:
    """`judged`: for training, which refuses labels with values that mean nothing."""
    labels = facts.labels
    return preprocessing_steps(
        keys=["image", "label"],
        spatial_dims=config.image_dims,
        slices_first=config.data.context is not None,
        channels=len(facts.channels),
        values=meanings(labels) if judged or facts.pictures else None,
        counts_as=labels.counts_as or None,
        missing=config.training.lacks_channels,
        region=region,
        **config.preprocessing.model_dump(),
    )


def _region(config: Config, facts: DataFacts, finder: str | None) -> Step | None:
    """What crops a case to the region in which a second stage sees it."""
    if config.finder is None:
        return None
    patch = config.training.patch_size
    shared = {
        "keys": ["image", "label"],
        "margin_mm": config.finder.margin_mm,
        "least_size": list(patch) if config.data.context is None else [*patch, config.data.context],
        "spacing_mm": config.preprocessing.spacing_mm,
    }
    if finder is None:
        return CropToLabelledd, {**shared, "values": list(facts.labels.target_values), "seed": config.seed}
    stage, found = first_stage(config), of_region(facts)
    steps = _preprocessing_steps(stage, found, None, judged=False)
    behind = [name for name, _ in steps].index(Normalized) + 1
    coarse = [target(step, **{**arguments, **_of_image(arguments)}) for step, arguments in steps[behind:]]
    return CropToFoundd, {
        **shared,
        "network": parts.placed(stage, parts.network(stage, found)),
        "weights": finder,
        "inferer": parts.inferer(stage),
        "coarse": target(Compose, transforms=coarse),
        "device": Code("@device"),
        "precision": stage.training.precision,
    }


def _of_image(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a step, of the image alone, which is the first of its keys."""
    return {
        key: value[:1]
        for key, value in arguments.items()
        if key in ("keys", "mode", "dtype") and isinstance(value, list)
    }
