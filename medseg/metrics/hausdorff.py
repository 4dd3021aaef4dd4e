"""The robust Hausdorff distance."""

from __future__ import annotations

from medseg.metrics.metric import Column, Comparison, Metric


class HD95(Metric):
    """The larger of the two distances within which 95 % of a surface lies from the other one, in mm."""

    column = Column(
        "HD95",
        unit="mm",
        digits=2,
        higher_is_better=False,
        charge="the image's diagonal",
        meaning="95 % of both surfaces lie closer together than this",
    )

    def measure(self, found: Comparison) -> float:
        return found.surfaces.hausdorff_mm(95)
