"""Overlap of the surfaces in the place of the volumes."""

from __future__ import annotations

from medseg.metrics.metric import Column, Comparison, Metric


class SurfaceDice(Metric):
    """The share of both surfaces that lies within the tolerance of the other one (Nikolov et al. 2021)."""

    column = Column(
        "surface Dice",
        with_tolerance=True,
        meaning="the share of both surfaces that lies within the tolerance of the other",
    )

    def measure(self, found: Comparison) -> float:
        return found.surfaces.dice(found.tolerance_mm)
