"""Types of options, with their bounds: what a signature declares, and a config is checked against."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Counts = Annotated[list[Count], Field(min_length=1)]
Size = Annotated[list[Count], Field(min_length=2, max_length=3)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]
Factors = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Axes = list[Annotated[int, Field(ge=0, le=2)]]
Steps = list[Count | Size]
"""One entry a level or stage: a number, or one an axis."""

Norm = Literal["instance", "group", "batch", "syncbatch", "none"]
