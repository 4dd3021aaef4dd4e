"""The sections `training.optimizer` and `training.schedule` of a config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.config.section import Section
from medseg.core.types import Positive, Share


class OptimizerConfig(Section):
    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    momentum: Share = 0.99
    """Nesterov momentum of `sgd`; AdamW does not use it."""
    encoder_factor: Annotated[float, Field(ge=0)] = 1.0
    """Times the learning rate for the encoder, usually pretrained; 0 freezes its weights (batch norm still follows)."""


class ScheduleConfig(Section):
    """learning_rate(progress) = warm-up line, then (1 - progress) ** power; progress is of epochs or of minutes."""

    warmup: Share = 0.02
    """Share of the budget in which the learning rate rises to its full value."""
    power: Annotated[float, Field(ge=0)] = 0.9
