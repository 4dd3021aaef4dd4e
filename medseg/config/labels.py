"""What the integers of a label mean, and what the channels of a network's output mean: pure data, no torch.

A label is a map of integers. Its *classes* exclude one another (softmax over background and classes); its *regions* are
unions of classes and may overlap (one sigmoid each), as whole tumour / tumour core / enhancing tumour in BraTS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medseg.config.errors import DataError, Problem
from medseg.config.plain import refusal


@dataclass(frozen=True)
class Labels:
    """Names and values of a label map.

    Args:
        classes: name -> integer value in the label file; a background included, first.
        regions: name -> values of the label file that belong to it; empty where classes are exclusive.
        region_values: for each region, in order, the value written into a mask; later ones overwrite earlier ones
            (nnU-Net's `regions_class_order`).
        ignore_index: value of voxels that count nowhere (neither in a loss nor in a metric), or None.
        colours: name of a class or region -> (red, green, blue), 0 to 255.
        also_ignored: further values that count nowhere (Cityscapes has 15 labels that are not evaluated).
        background: value of the class that is not scored; None where every class is (a natural image has no such class,
            and VOC scores its background like any other).

    Raises:
        DataError: a name would be code in a MONAI bundle (a `dataset.json` comes from anywhere).
    """

    classes: Mapping[str, int]
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    region_values: tuple[int, ...] = ()
    ignore_index: int | None = None
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    also_ignored: tuple[int, ...] = ()
    background: int | None = 0

    def __post_init__(self) -> None:
        reasons = [reason for name in (*self.classes, *self.regions) if (reason := refusal(name))]
        if reasons:
            raise DataError([Problem("label names", reason, "rename the label") for reason in reasons])

    @property
    def values(self) -> tuple[int, ...]:
        """The value of every class in the label file, background first: channel k of a softmax means `values[k]`."""
        return tuple(self.classes.values())

    @property
    def ignored(self) -> tuple[int, ...]:
        """Every value whose voxels count nowhere."""
        return self.also_ignored if self.ignore_index is None else (self.ignore_index, *self.also_ignored)

    @property
    def targets(self) -> dict[str, tuple[int, ...]]:
        """What is scored: name -> label values, one entry a region, or a class (without the background)."""
        if self.regions:
            return dict(self.regions)
        return {name: (value,) for name, value in self.classes.items() if value != self.background}

    @property
    def channels(self) -> tuple[str, ...]:
        """The name of every output channel of a network."""
        return tuple(self.regions) if self.regions else tuple(self.classes)
