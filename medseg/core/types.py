"""Types of options, with their bounds: what a signature declares, and a config is checked against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

SomeValue = TypeVar("SomeValue")


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
EncoderNorm = Literal[Norm, "frozenbatch"]
AnyNorm = Literal[EncoderNorm, "group32"]
Activation = Literal["leakyrelu", "relu", "gelu", "silu"]
OutputStride = Literal[8, 16, 32]
Upsampling = Literal["linear", "transposed"]
DecoderUpsampling = Literal["nearest", Upsampling]
Downsampling = Literal["stride", "pool"]
PoolKernel = Literal[2, 3]
PoolPadding = Literal[0, 1]
ResNetBlock = Literal["basic", "bottleneck"]
ResNetStem = Literal["7x7", "deep", "deep_wide"]
HRNetLayout = Literal["w18s", "w18", "w32", "w48"]
TimmNorm = Literal["batch", "own", "frozenbatch"]
FCNPadding = Literal["published", "same"]
PyramidHead = Literal["sum", "mlp"]
Overlap = Literal["dice", "generalised_dice", "tversky"]
Inflation = Literal["mean", "centre"]
Guide = Literal["stretched", "picture"]


def chosen(value: SomeValue, kind: Any, what: str) -> SomeValue:
    """The value, which is one of those that a `Literal` names.

    Args:
        what: what it is called in the message, as the option `upsample`.

    Raises:
        ValueError: it is none of them, with those that there are.
    """
    known = get_args(kind)
    if value not in known:
        raise ValueError(f"{what} {value!r} is unknown; known: {', '.join(map(str, known))}")
    return value
