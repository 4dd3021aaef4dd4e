"""Whose rules of evaluation there are."""

from __future__ import annotations

from typing import Literal, get_args

Convention = Literal["medical", "voc", "cityscapes", "ade20k"]
"""Per case (medical), or of one confusion matrix of all images as the benchmark's own program forms it."""
CONVENTIONS: tuple[str, ...] = get_args(Convention)
