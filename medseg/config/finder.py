"""The section `finder` of a config: the first of two stages, which finds the region that the network delineates in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from medseg.config.network import NetworkConfig
from medseg.config.section import Finding, Section
from medseg.core.types import Positive, ProperFraction, Size, Weight

FINDER = "finder"  # the first stage's folder in that of the run
FINDER_SHARE = 0.25  # it has the easier task
MARGIN_MM = 15.0  # a target cut off is worse than a few windows more


class FinderConfig(Section):
    """Two stages: a network finds the region of all targets on a coarse grid, another like it delineates them there."""

    spacing_mm: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    """Voxel size of the coarse grid, in the order of preprocessing.orientation."""
    patch_size: Size | None = None
    """Patch of the finder, in voxels of the coarse grid; default: training.patch_size."""
    share: ProperFraction = FINDER_SHARE
    """What the finder gets of the budget (minutes, steps or epochs); the network has the rest."""
    margin_mm: Weight = MARGIN_MM
    """The region is what was found and so much more on each side; no smaller than a patch."""

    def misfits(self, network: NetworkConfig, image_dims: int) -> Iterable[Finding]:
        """What does not go with the network, or with images of so many dimensions."""
        if image_dims != 3:
            yield ("finder", "network.spatial_dims"), "is of volumes: needs spatial_dims 3, or data.context"
        patch = self.patch_size
        if patch is None:
            return
        if len(patch) != network.spatial_dims:
            what = f"{patch} has {len(patch)} numbers, but network.spatial_dims is {network.spatial_dims}"
            yield ("finder.patch_size", "network.spatial_dims"), what
            return
        coarsest = network.coarsest(patch)
        if coarsest and math.prod(coarsest) == 1 and network.options()["norm"] == "instance":
            what = f"{patch} is a single voxel at the coarsest resolution, too few for instance norm"
            yield ("finder.patch_size", "network.norm"), what
