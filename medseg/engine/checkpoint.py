"""What a checkpoint must hold so that a training goes on from it: looked at before anything is made of it.

PyTorch takes any state into an optimizer, and says at the next step that it cannot compute with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

Number = float | int | None


class Allowed(BaseModel):
    """Of `engine.allowance.Allowance`."""

    model_config = ConfigDict(strict=True)

    cases: int | None
    cost: float


class Begun(BaseModel):
    """Of `engine.trainer.Continued`: an epoch that was left before its end."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    steps: NonNegativeInt
    loss_sum: torch.Tensor
    progress: float | None = None


class Progress(BaseModel):
    """How far the training has come; keys with a default are those that older checkpoints lack."""

    model_config = ConfigDict(strict=True)

    epoch: NonNegativeInt
    seconds: NonNegativeFloat
    ended_after: NonNegativeFloat = 0.0
    validation_seconds: NonNegativeFloat = 0.0
    allowance: Allowed | None = None
    begun: Begun | None = None
    best_metric: float = -1.0
    best_epoch: int = -1
    best_scores: list[float] = []
    validated_epoch: int = 0
    history: list[dict[str, Number]]


def check_progress(state: Mapping[str, Any]) -> None:
    """Raises ValueError where it is not that of a training."""
    try:
        Progress.model_validate(state)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def check_optimizer(optimizer: torch.optim.Optimizer, kept: Any) -> None:
    """Raises ValueError where the state of an optimizer is none of this one: of other parameters, or of other types."""
    own = optimizer.state_dict()["param_groups"]
    for group, other in zip(own, kept["param_groups"], strict=True):
        if list(group["params"]) != list(other["params"]):
            raise ValueError("the optimizer's parameters are others")
        for name, value in group.items():
            if name in other and not _alike(value, other[name]):
                raise ValueError(f"{name} of the optimizer is a {type(other[name]).__name__}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kinds = {
        frozenset((name, _kind(value, parameters[number])) for name, value in values.items())
        for number, values in kept["state"].items()
        if parameters[number].dim()
    }
    if len(kinds) > 1 or any(kind == OTHER for one in kinds for _, kind in one):
        raise ValueError("what the optimizer has kept of a parameter is not of it")


OTHER = "other"


def _kind(value: Any, parameter: torch.Tensor) -> str:
    """What an optimizer keeps: numbers of the parameter's shape, a number, or nothing; the same of every parameter."""
    if value is None:
        return "nothing"
    if not torch.is_tensor(value):
        return "number" if isinstance(value, int | float) else OTHER
    if value.layout != torch.strided or not value.is_floating_point():
        return OTHER
    return "number" if not value.dim() else "tensor" if value.shape == parameter.shape else OTHER


def _alike(one: Any, other: Any) -> bool:
    """Of one type; numbers are alike, and what may be left out."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers or one is None or other is None or type(one) is type(other)
