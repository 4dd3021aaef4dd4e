"""What the preprocessed cases of a planned run will take, from the fingerprint of its data."""

from __future__ import annotations

import math
from pathlib import Path

from medseg.config.schema import Config
from medseg.core.machine import free_disk
from medseg.data.training.size import entry_bytes
from medseg.data.training.transforms import AXES
from medseg.inference.colour import COLOUR_SCALES
from medseg.planning.finder import region_shape
from medseg.planning.fingerprint import CasePrint, Fingerprint
from medseg.runs.disk import Disk, cache_folder


def planned_disk(measured: Fingerprint, config: Config, run: Path) -> Disk:
    """The cache of all cases, in the folder that the run will have; of two stages both."""
    folder = cache_folder(config, run)
    needed = sum(_case_bytes(case, len(measured.channels), config) for case in measured.cases)
    return Disk(folder, needed, free_disk(folder))


def _case_bytes(case: CasePrint, channels: int, config: Config) -> int:
    options = config.preprocessing
    target = options.spacing_mm
    own = case.spacing_mm  # of volumes along right, anterior, superior
    if len(own) == 3:
        own = tuple(own[next(a for a, ends in enumerate(AXES) if code in ends)] for code in options.orientation)
    sides = zip(own, target or [None] * len(own), strict=True)
    finer = math.prod(before / after if after else 1.0 for before, after in sides)
    if options.longest_side is not None:
        finer = (options.longest_side / max(case.shape)) ** 2
    shape = case.cropped_shape if options.crop_to_foreground else case.shape
    width = 1 if options.colours in COLOUR_SCALES else 4
    counts = [finer * count for count in case.voxels.values()]
    voxels = finer * math.prod(shape)
    if config.finder is not None:
        region = math.prod(region_shape(case, 2 * config.finder.margin_mm))  # as large as it may become
        coarse = math.prod(shape) * math.prod(case.spacing_mm) / math.prod(config.finder.spacing_mm)
        voxels = min(voxels, max(finer * region, math.prod(config.training.patch_size))) + coarse
    return entry_bytes(voxels, channels, bytes_a_value=width, counts=counts)
