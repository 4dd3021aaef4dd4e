"""When two stages are proposed, and how they are fitted, on fingerprints that are made up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from medseg.config.finder import FINDER_SHARE, MARGIN_MM
from medseg.planning.candidates import SLICES, STAGES, VOLUMES, Shortlist, shortlist
from medseg.planning.finder import choose_stages, finder_choices, in_regions, region_shape
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.overrides import kinds_that_fit
from medseg.planning.rules import Machine
from tests.planning.test_rules import CPU, GPU, made_up


def boxed(shape: Sequence[int], spacing: Sequence[float], box: Sequence[int], *, cropped: float = 1.0) -> Fingerprint:
    """Ten cases, whose targets lie in a box of so many voxels."""
    found = made_up([tuple(shape)] * 10, [tuple(spacing)] * 10, cropped=cropped)
    return replace(found, cases=tuple(replace(case, target_box=tuple(box)) for case in found.cases))


ABDOMEN = boxed((512, 512, 400), (0.8, 0.8, 1.5), (120, 100, 60))
KIDNEYS = boxed((512, 512, 200), (0.8, 0.8, 1.5), (280, 150, 60))
LARGE = boxed((512, 512, 400), (0.8, 0.8, 1.5), (400, 300, 250))
HIPPOCAMPUS = boxed((36, 50, 36), (1.0, 1.0, 1.0), (20, 40, 20))
BRATS = boxed((240, 240, 155), (1.0, 1.0, 1.0), (70, 70, 60), cropped=0.65)
GLIOMA = boxed((256, 256, 28), (1.0, 1.0, 1.0), (70, 60, 9))  # thick slices whose headers say otherwise


def listed(found: Fingerprint, minutes: float | None = 30.0, machine: Machine = CPU, **options: object) -> Shortlist:
    return shortlist(found, machine, minutes, 2, **{"weights": None} | options)  # type: ignore[arg-type]


def kinds(found: Shortlist) -> list[str]:
    return [kind.name for kind in found.kinds]


def test_a_small_target_in_a_volume_of_many_patches_is_found_first() -> None:
    clear = listed(ABDOMEN)
    assert kinds(clear) == [STAGES, VOLUMES, SLICES]
    assert "patches" in clear.why
    assert kinds(listed(KIDNEYS)) == [VOLUMES, SLICES, STAGES], "worth a trial, and not clear without one"
    assert kinds(listed(ABDOMEN, minutes=1.0))[0] == VOLUMES, "a finder of a few steps finds nothing"
    assert STAGES not in kinds(listed(LARGE))


@pytest.mark.parametrize("minutes", [5.0, 15.0, 60.0, None])
@pytest.mark.parametrize("machine", [CPU, replace(CPU, bytes_a_value=4), GPU])
def test_what_is_a_few_patches_is_planned_as_before(minutes: float | None, machine: Machine) -> None:
    for found in (HIPPOCAMPUS, BRATS):
        assert STAGES not in kinds(listed(found, minutes, machine))


def test_without_true_millimetres_there_is_no_margin() -> None:
    thick = [replace(case, coarseness=(1.0, 1.0, 5.0)) for case in GLIOMA.cases]
    doubtful = replace(GLIOMA, cases=tuple(thick))
    assert doubtful.spacing_doubt()
    for minutes in (2.0, 5.0, 20.0):
        assert STAGES not in kinds(listed(doubtful, minutes))


def test_the_patch_is_chosen_for_the_regions_and_the_grid_for_the_volume() -> None:
    sampling = choose_stages(ABDOMEN, CPU, 30.0, 2)
    assert sampling is not None
    assert sampling.finder is not None
    region = region_shape(ABDOMEN.cases[0], MARGIN_MM)
    assert region == (120 + 38, 100 + 38, 60 + 20)
    assert all(patch <= side for patch, side in zip(sampling.network.patch_size, region, strict=True))
    assert (in_regions(ABDOMEN).shapes(cropped=True) == region).all()
    patch = sampling.finder.patch_size
    assert patch is not None
    assert math.prod(patch) <= math.prod(sampling.network.patch_size)
    volume = np.multiply((512, 512, 400), (0.8, 0.8, 1.5))
    seen = np.array(patch) * sampling.finder.spacing_mm / volume
    assert (seen > 0.6).all(), "most of the volume in one patch"
    assert all(side % step == 0 for side, step in zip(patch, sampling.network.steps, strict=True))
    assert sampling.step_seconds * (sampling.steps or 0) <= 30 * 60 * (1 - FINDER_SHARE)
    keys = {choice.key: choice.value for choice in finder_choices(sampling)}
    assert keys["finder.spacing_mm"] == [sampling.finder.spacing_mm] * 3
    assert keys["finder.share"] == FINDER_SHARE


def test_a_thin_target_is_not_lost_between_coarse_voxels() -> None:
    thin = choose_stages(boxed((512, 512, 400), (0.8, 0.8, 1.5), (40, 40, 4)), CPU, 30.0, 2)
    assert thin is not None
    assert thin.finder is not None
    assert thin.finder.spacing_mm <= 4 * 1.5 / 3


def test_what_is_given_decides() -> None:
    assert kinds_that_fit([]) is None
    assert kinds_that_fit(["finder.margin_mm=30"]) == [STAGES]
    assert kinds(listed(HIPPOCAMPUS, only=[STAGES])) == [STAGES]
    without = kinds_that_fit(["finder=null"])
    assert without is not None
    assert kinds(listed(ABDOMEN, only=without)) == [VOLUMES, SLICES]
    assert kinds_that_fit(["network.spatial_dims=3"]) == [VOLUMES, STAGES]
    assert kinds_that_fit(["network.spatial_dims=3", "finder=null"]) == [VOLUMES]
