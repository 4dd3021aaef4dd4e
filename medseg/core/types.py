"""Types of options, with their bounds: what a signature declares, and a config is checked against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError


def _ordered(limits: list[float]) -> list[float]:
    if limits[0] > limits[1]:
        raise PydanticCustomError("unordered", "must go from low to high")
    return limits


Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
ProperFraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[Sequence[Count], Field(min_length=1)]
Size = Annotated[list[Count], Field(min_length=2, max_length=3)]
Deviation = Annotated[float, Field(ge=0)]
Degrees = Annotated[float, Field(ge=0, le=180)]
GreyLevels = Annotated[float, Field(ge=0, le=255)]
Proportion = Annotated[float, Field(gt=0, le=1)]
Range = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
"""From low to high, as the two below."""
Factors = Annotated[list[Positive], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
Proportions = Annotated[list[Proportion], Field(min_length=2, max_length=2), AfterValidator(_ordered)]
Axes = list[Annotated[int, Field(ge=0, le=2)]]
Steps = Sequence[Count | Sequence[Count]]
"""One entry a level or stage: a number, or one an axis."""

Norm = Literal["instance", "group", "batch", "syncbatch", "none"]
Activation = Literal["leakyrelu", "relu", "gelu", "silu"]
OutputStride = Literal[8, 16, 32]
