"""Surface distances against DeepMind's surface-distance, and against distances one can count on fingers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.metrics.surface import surface_distances

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def blob(rng: np.random.Generator, shape: tuple[int, ...], smooth: float) -> np.ndarray:
    """An irregular mask that may touch the edges of the volume and fall into several parts."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), smooth)
    return field > np.quantile(field, rng.uniform(0.5, 0.97))


CASES = [
    pytest.param((31, 24), (1.0, 1.0), id="2D isotropic"),
    pytest.param((31, 24), (0.7, 2.3), id="2D anisotropic"),
    pytest.param((14, 22, 17), (1.0, 1.0, 1.0), id="3D isotropic"),
    pytest.param((9, 22, 17), (5.0, 0.78, 0.78), id="3D thick slices"),
    pytest.param((14, 22, 17), (0.9, 1.7, 3.1), id="3D all different"),
]


@pytest.mark.parametrize("smooth", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("shape", "spacing_mm"), CASES)
def test_agrees_with_deepmind(shape: tuple[int, ...], spacing_mm: tuple[float, ...], smooth: float) -> None:
    oracle = pytest.importorskip("surface_distance", reason="the oracle needs the package surface-distance")
    rng = np.random.default_rng(len(shape) * 100 + int(smooth * 10))
    for _ in range(4):
        truth, prediction = blob(rng, shape, smooth), blob(rng, shape, smooth)
        expected = oracle.compute_surface_distances(truth, prediction, spacing_mm)
        got = surface_distances(prediction, truth, spacing_mm)
        assert got.truth_area.sum() == pytest.approx(expected["surfel_areas_gt"].sum(), abs=1e-6)
        np.testing.assert_allclose(got.truth_mm, expected["distances_gt_to_pred"], atol=1e-9)
        np.testing.assert_allclose(got.prediction_mm, expected["distances_pred_to_gt"], atol=1e-9)
        for percentile in (50, 95, 100):
            assert got.hausdorff_mm(percentile) == pytest.approx(
                oracle.compute_robust_hausdorff(expected, percentile), abs=1e-6
            )
        for tolerance_mm in (0.5, 1.0, 3.0):
            assert got.dice(tolerance_mm) == pytest.approx(
                oracle.compute_surface_dice_at_tolerance(expected, tolerance_mm), abs=1e-6
            )


def test_two_voxels_five_apart() -> None:
    prediction, truth = np.zeros((2, 10, 4, 4), dtype=bool)
    prediction[2, 1, 1] = truth[7, 1, 1] = True
    distances = surface_distances(prediction, truth, (2.0, 1.0, 1.0))
    # A voxel has 8 corners: 4 are 4 voxels from the nearest corner of the other voxel, 4 are 5 away.
    np.testing.assert_allclose(distances.truth_mm, [8.0] * 4 + [10.0] * 4)
    assert distances.hausdorff_mm() == 10.0
    assert distances.dice(7.9) == 0.0
    assert distances.dice(8.0) == pytest.approx(0.5)


def test_identical_masks_touch_everywhere() -> None:
    mask = np.zeros((6, 7), dtype=bool)
    mask[0:3, 2:5] = True  # at the edge of the image
    distances = surface_distances(mask, mask, (0.5, 3.0))
    assert distances.hausdorff_mm(100) == 0.0
    assert distances.dice(0.0) == 1.0


def test_a_cube_has_the_area_of_its_faces_but_for_cut_corners() -> None:
    mask = np.zeros((60, 60, 60), dtype=bool)
    mask[5:55, 5:55, 5:55] = True
    area = surface_distances(mask, mask, (1.0, 1.0, 1.0)).truth_area.sum()
    assert 0.97 * 6 * 50**2 < area < 6 * 50**2


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing_mm"),
    [
        (np.zeros((4, 4), bool), np.ones((4, 4), bool), (1, 1)),
        (np.ones((4, 4), bool), np.ones((4, 5), bool), (1, 1)),
        (np.ones((4, 4), bool), np.ones((4, 4), bool), (1, 1, 1)),
    ],
)
def test_impossible_input_is_refused(prediction: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="mask"):
        surface_distances(prediction, truth, spacing_mm)


def test_noise_is_compared_by_another_way_to_the_same_numbers() -> None:
    oracle = pytest.importorskip("surface_distance", reason="the oracle needs the package surface-distance")
    rng = np.random.default_rng(5)
    truth = np.zeros((50, 50, 50), dtype=bool)
    truth[10:20, 20:40, 5:20] = True
    prediction = rng.random(truth.shape) < 0.05
    expected = oracle.compute_surface_distances(truth, prediction, (1.0, 0.6, 2.0))
    got = surface_distances(prediction, truth, (1.0, 0.6, 2.0))
    assert len(got.prediction_mm) > prediction.size / 10  # the path for dense surfaces
    assert got.hausdorff_mm() == pytest.approx(oracle.compute_robust_hausdorff(expected, 95), abs=1e-6)
    assert got.dice(1.0) == pytest.approx(oracle.compute_surface_dice_at_tolerance(expected, 1.0), abs=1e-6)
