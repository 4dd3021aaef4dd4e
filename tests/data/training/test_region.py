"""Volumes cropped to the region of their targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing

from medseg.data.training.region import CropToLabelledd, extent, region

SHAPE = (40, 30, 20)
SPACING = (1.0, 2.0, 4.0)


def case(name: str = "one", values: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    label = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    for value in values:
        label[0, 20:26, 10:14, 9:11] = value
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    image = torch.arange(float(np.prod(SHAPE))).view(1, *SHAPE)
    return {"case": name, "image": MetaTensor(image, affine=affine), "label": MetaTensor(label, affine=affine)}


def test_the_box_of_a_mask() -> None:
    mask = np.zeros(SHAPE, bool)
    assert extent(mask) is None
    mask[3, 4, 5] = mask[10, 4, 2] = True
    low, high = extent(mask) or (None, None)
    assert np.array_equal(low, [3, 4, 2])
    assert np.array_equal(high, [11, 5, 6])


@pytest.mark.parametrize(
    ("low", "high", "least", "expected"),
    [
        ((4, 4, 4), (10, 8, 6), (1, 1, 1), ((4, 4, 4), (10, 8, 6))),
        ((4.2, 4, 4), (9.1, 8, 6), (1, 1, 1), ((4, 4, 4), (10, 8, 6))),
        ((-3, 4, 4), (50, 8, 6), (1, 1, 1), ((0, 4, 4), (40, 8, 6))),
        ((4, 4, 4), (6, 8, 6), (8, 1, 1), ((1, 4, 4), (9, 8, 6))),
        ((0, 4, 4), (2, 8, 6), (8, 1, 1), ((0, 4, 4), (8, 8, 6))),
        ((38, 4, 4), (40, 8, 6), (8, 1, 1), ((32, 4, 4), (40, 8, 6))),
        ((4, 4, 4), (6, 8, 6), (99, 1, 1), ((0, 4, 4), (40, 8, 6))),
        ((39.7, 4, 4), (39.9, 8, 6), (1, 1, 1), ((39, 4, 4), (40, 8, 6))),
        ((-1e30, -1e30, 4), (1e30, 8, 6), (1, 1, 1e30), ((0, 0, 0), (40, 8, 20))),
    ],
)
def test_a_region_is_whole_voxels_of_the_volume_and_no_smaller_than_asked(
    low: tuple[float, ...], high: tuple[float, ...], least: tuple[int, ...], expected: tuple[tuple[int, ...], ...]
) -> None:
    start, end = region(np.array(low, float), np.array(high, float), SHAPE, np.array(least))
    assert (tuple(start), tuple(end)) == expected


def test_a_training_case_keeps_all_its_targets_and_knows_where_it_was() -> None:
    sizes = set()
    for number in range(20):
        given = case(f"case {number}")
        crop = CropToLabelledd(["image", "label"], [1, 2], 4.0, [4, 4, 4])
        done = crop(given)
        assert (done["label"] == 2).sum() == (given["label"] == 2).sum()
        start = (done["image"].affine[:3, 3] / torch.tensor(SPACING)).int().tolist()
        assert float(done["image"][0, 0, 0, 0]) == float(given["image"][0, *start])
        assert torch.equal(crop(given)["image"], done["image"]), "the same every time"
        sizes.add(tuple(done["image"].shape[1:]))
        assert all(6 <= n <= 6 + 18 for n in done["image"].shape[1:2])
    assert len(sizes) > 5, "boxes differ, as those that are found do"


@pytest.mark.parametrize(
    ("grid", "patch", "size"),
    [([2.0, 2.0, None], [10, 10, 10], (10, 10, 10)), ([0.5, 1.0, 1.5], [33, 24, 16], (33, 25, 17))],
)
def test_a_region_holds_a_patch_of_the_grid_that_comes(
    grid: list[float | None], patch: list[int], size: tuple[int, ...]
) -> None:
    done = CropToLabelledd(["image", "label"], [1], 0.0, patch, grid)(case(values=(1,)))
    resample = Spacing([side or 0.0 for side in grid], padding_mode="border")
    assert tuple(resample(done["image"]).shape[1:]) == size


def test_a_region_holds_no_more_memory_than_itself() -> None:
    done = CropToLabelledd(["image", "label"], [1], 0.0, [4, 4, 4])(case(values=(1,)))
    for key in ("image", "label"):
        assert done[key].untyped_storage().nbytes() == done[key].numel() * done[key].element_size()


def test_a_case_without_a_target_stays_whole() -> None:
    done = CropToLabelledd(["image", "label"], [3], 4.0, [4, 4, 4])(case())
    assert tuple(done["image"].shape[1:]) == SHAPE
