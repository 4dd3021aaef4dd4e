"""A case through its preprocessing, which stops before it takes more memory than there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Compose, Spacingd

from medseg.core.foreign import unwrapped
from medseg.data.files.limits import check_free

COORDINATES = 20  # bytes a voxel that resampling takes besides the image's float32, as measured; the label 8 more
LABEL = 8


def apply(transform: Callable[[dict[str, Any]], Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """Run a transform on one case; a `MedsegError` inside comes out as itself, not wrapped by MONAI's `Compose`.

    Raises:
        DataError: among others, what a header says would be resampled to more memory than there is.
    """
    with unwrapped():
        return transformed(transform, dict(case))


def transformed(transform: Callable[[dict[str, Any]], Any], case: dict[str, Any]) -> Any:
    """As `transform(case)`, with a look at what it will be resampled to, before the system ends the process."""
    steps: Sequence[Any] = transform.transforms if isinstance(transform, Compose) else ()
    place = next((number for number, step in enumerate(steps) if isinstance(step, Spacingd)), None)
    if place is None:
        return transform(case)
    parts: Any = transform
    loaded = parts(case, end=place)
    _check_room(loaded, [float(side) for side in steps[place].spacing_transform.pixdim])
    return parts(loaded, start=place)


def _check_room(case: Mapping[str, Any], spacing_mm: Sequence[float]) -> None:
    """Raises DataError where a case, resampled, takes more memory than is free; a spacing of 0 keeps an axis."""
    image = case["image"]
    own = torch.linalg.vector_norm(image.affine[:3, : image.ndim - 1].double(), dim=0).tolist()
    later = [after or before for before, after in zip(own, [*spacing_mm, *own[len(spacing_mm) :]], strict=False)]
    sizes = zip(image.shape[1:], own, later, strict=True)
    voxels = math.prod((size - 1) * before / after + 1 for size, before, after in sizes)
    each = 4 * len(image) + COORDINATES + (LABEL if "label" in case else 0)
    grid = " x ".join(f"{side:.3g}" for side in later)
    check_free(str(case["case"]), voxels * each, f"{{}} to resample it to {grid} mm")
