"""The two stages of a config with a finder: each as a config of its own, by which the same machinery trains it."""

from __future__ import annotations

import math
from typing import Any

from medseg.config.schema import Config, EvaluationConfig, InferenceConfig

QUICK_OVERLAP = 0.25  # of windows where edges need not be fine: the finder's, and of a validation that has to be quick


def first_stage(config: Config) -> Config:
    """The finder: the config on the coarse grid, with its share of the budget; it begins with no other run's weights.

    What its labels mean follows from the facts of the data (`bundle.facts.of_region`), in which all targets are one.

    Args:
        config: has a finder.
    """
    finder = config.finder
    assert finder is not None
    training = config.training
    first = training.model_copy(
        update={
            **_budget(config, finder.share),
            "patch_size": finder.patch_size or training.patch_size,
            "patch_growth": 0.0,
            "start": None,
            "early_stop_epochs": None,
        }
    )
    inference = InferenceConfig(
        overlap=QUICK_OVERLAP,
        whole_image=config.inference.whole_image,
        window_batch=config.inference.window_batch,
    )
    changed: dict[str, Any] = {
        "name": f"{config.name}-finder",
        "description": f"finds the region in which {config.name} delineates",
        "finder": None,
        "preprocessing": config.preprocessing.model_copy(update={"spacing_mm": list(finder.spacing_mm)}),
        "loss": config.loss.unweighted(),
        "training": first,
        "inference": inference,
        "evaluation": EvaluationConfig(),
    }
    return config.model_copy(update=changed)


def second_stage(config: Config) -> Config:
    """The config with what the finder leaves of the budget; itself, where there is no finder."""
    if config.finder is None:
        return config
    rest = config.training.model_copy(update=_budget(config, second_share(config)))
    return config.model_copy(update={"training": rest})


def second_share(config: Config) -> float:
    """What the network that is planned, or asked for, has of the budget; all of it, where there is no finder."""
    return 1.0 if config.finder is None else 1 - config.finder.share


def _budget(config: Config, share: float) -> dict[str, Any]:
    """The share of the minutes, steps and epochs; at least one step and one epoch."""
    training = config.training
    minutes, steps = training.max_minutes, training.max_iterations
    return {
        "max_minutes": None if minutes is None else minutes * share,
        "max_iterations": None if steps is None else math.ceil(steps * share),
        "max_epochs": math.ceil(training.max_epochs * share),
    }
