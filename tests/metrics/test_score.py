"""The score of one case: states, hand-computed values, penalties, ignored voxels."""

from __future__ import annotations

import time

import numpy as np
import pytest

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.metrics import METRICS
from medseg.metrics.score import CaseScore, score_case

CLASSES = Labels(classes={"background": 0, "anterior": 1, "posterior": 2})
REGIONS = Labels(
    classes={"background": 0, "oedema": 1, "core": 2, "enhancing": 3},
    regions={"whole tumour": (1, 2, 3), "tumour core": (2, 3), "enhancing": (3,)},
    region_values=(1, 2, 3),
)


def score(prediction: np.ndarray, truth: np.ndarray, labels: Labels = CLASSES, **changes) -> dict[str, CaseScore]:
    options = {"case": "case_1", "spacing_mm": (1.0,) * truth.ndim, "tolerance_mm": 1.0} | changes
    return {row.target: row for row in score_case(prediction, truth, labels=labels, **options)}


def test_hand_computed_overlap() -> None:
    truth = np.zeros((6, 6, 6), dtype=np.uint8)
    prediction = truth.copy()
    truth[1:3, 1:3, 1:3] = 1  # 8 voxels
    prediction[1:3, 1:3, 2:5] = 1  # 12 voxels, 4 of them right
    row = score(prediction, truth, spacing_mm=(1.0, 2.0, 5.0))["anterior"]
    assert (row.true_positives, row.false_positives, row.false_negatives) == (4, 8, 4)
    assert row.state == "scored"
    assert row.dice == pytest.approx(2 * 4 / 20)
    assert row.iou == pytest.approx(4 / 16)
    assert row.precision == pytest.approx(4 / 12)
    assert row.recall == pytest.approx(4 / 8)
    assert row.volume_ml == pytest.approx(12 * 10 / 1000)
    assert row.truth_volume_ml == pytest.approx(8 * 10 / 1000)
    assert row.hd95_mm == 10.0  # the far side is off by two voxels of 5 mm


def test_regions_overlap() -> None:
    truth = np.zeros((4, 5, 6), dtype=np.int64)
    truth[1, 1, 1:5] = [1, 2, 3, 3]
    prediction = truth.copy()
    prediction[1, 1, 2] = 3  # the core is right as a whole, its enhancing part is too large
    rows = score(prediction, truth, REGIONS)
    assert [rows[name].dice for name in ("whole tumour", "tumour core")] == [1.0, 1.0]
    assert rows["enhancing"].dice == pytest.approx(2 * 2 / 5)


def test_missed_is_penalised_and_absent_is_not_scored() -> None:
    truth = np.zeros((3, 4, 12), dtype=np.uint8)
    truth[1, 1, 1] = 1
    rows = score(np.zeros_like(truth), truth, spacing_mm=(1.0, 3.0, 1.0))
    missed, absent = rows["anterior"], rows["posterior"]
    assert missed.state == "missed"
    assert [missed.dice, missed.iou, missed.precision, missed.recall, missed.surface_dice] == [0.0] * 5
    assert missed.hd95_mm == pytest.approx((3**2 + 12**2 + 12**2) ** 0.5)
    assert absent.state == "absent"
    assert absent.metrics == dict.fromkeys(METRICS)
    assert absent.volume_ml == 0.0


def test_an_invented_structure_is_penalised() -> None:
    truth = np.zeros((240, 240, 155), dtype=np.uint8)
    prediction = truth.copy()
    prediction[3, 4, 5] = 2
    row = score(prediction, truth)["posterior"]
    assert row.state == "false_positive_only"
    assert (row.dice, row.precision, row.recall, row.surface_dice) == (0.0, 0.0, 0.0, 0.0)
    assert row.hd95_mm == pytest.approx(373.13, abs=0.005)  # what BraTS charges


@pytest.mark.parametrize("ignore_index", [255, -1])
def test_ignored_voxels_change_nothing(ignore_index: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (8, 9, 10)).astype(np.int16)
    prediction = rng.integers(0, 3, truth.shape).astype(np.uint8)
    truth[4:] = ignore_index
    labels = Labels(classes=CLASSES.classes, ignore_index=ignore_index)
    other = prediction.copy()
    other[4:] = rng.integers(0, 3, other[4:].shape)
    assert score(prediction, truth, labels) == score(other, truth, labels)
    emptied = np.where(truth == ignore_index, 0, prediction)
    assert score(prediction, truth, labels) == score(emptied, np.where(truth == ignore_index, 0, truth))


def test_an_image_that_is_ignored_as_a_whole_is_absent() -> None:
    truth = np.full((4, 4), 255, dtype=np.uint8)
    rows = score(np.ones_like(truth), truth, Labels(classes=CLASSES.classes, ignore_index=255))
    assert {row.state for row in rows.values()} == {"absent"}


def test_two_dimensions_have_no_volume() -> None:
    label = np.zeros((5, 6), dtype=np.uint8)
    label[2, 2] = 1
    row = score(label, label)["anterior"]
    assert (row.dice, row.hd95_mm, row.volume_ml, row.truth_volume_ml) == (1.0, 0.0, None, None)


def test_agrees_with_deepmind_on_the_whole_image() -> None:
    """The crop to the joint box of all targets must change no distance."""
    oracle = pytest.importorskip("surface_distance", reason="the oracle needs the package surface-distance")
    rng = np.random.default_rng(1)
    truth, prediction = np.zeros((2, 30, 20, 25), dtype=np.uint8)
    for label in (truth, prediction):
        low = rng.integers(1, 6, 3)
        label[low[0] : 24, low[1] : 16, low[2] : 20] = rng.integers(1, 4, 3)[0]
        label[10 + low[0] :, 3:9, 4:8] = 3
    for name, row in score(prediction, truth, REGIONS, spacing_mm=(0.8, 1.5, 2.0), tolerance_mm=2.0).items():
        masks = [np.isin(label, REGIONS.regions[name]) for label in (truth, prediction)]
        if not all(mask.any() for mask in masks):
            continue
        distances = oracle.compute_surface_distances(*masks, (0.8, 1.5, 2.0))
        assert row.hd95_mm == pytest.approx(oracle.compute_robust_hausdorff(distances, 95), abs=1e-6)
        assert row.surface_dice == pytest.approx(oracle.compute_surface_dice_at_tolerance(distances, 2.0), abs=1e-6)


def test_another_grid_is_an_error_that_names_the_case() -> None:
    with pytest.raises(DataError, match=r"case_1: prediction \(4, 4\), truth \(4, 5\)"):
        score(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))


def test_a_whole_brain_with_a_stray_voxel_is_quick() -> None:
    axes = np.ogrid[:240, :240, :155]
    radius = sum(((axis - centre) / 1.2) ** 2 for axis, centre in zip(axes, (110, 120, 80), strict=True)) ** 0.5
    truth = np.digitize(-radius, [-40, -28, -15]).astype(np.uint8)
    prediction = np.roll(truth, (2, -3, 1), axis=(0, 1, 2))
    prediction[0, 0, 0] = prediction[-1, -1, -1] = 3
    start = time.process_time()
    rows = score(prediction, truth, REGIONS)
    assert time.process_time() - start < 6  # 1 s on an idle core
    assert all(row.hd95_mm < 5 for row in rows.values())
