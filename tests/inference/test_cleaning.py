"""Steps on a finished mask, against scikit-image, SciPy and MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import FillHoles, KeepLargestConnectedComponent
from scipy import ndimage
from skimage.measure import label as connected

from medseg.core.errors import ConfigError
from medseg.core.labels import Labels
from medseg.engine.cohort import CleanMaskd
from medseg.inference.cleaning.clean import clean_mask

CLASSES = Labels(classes={"background": 0, "one": 1, "two": 2})
BRATS = Labels(
    classes={"background": 0, "necrosis": 1, "oedema": 2, "enhancing": 4},
    regions={"whole": (1, 2, 4), "core": (1, 4), "active": (4,)},
    region_values=(2, 1, 4),
)


def noise(seed: int, labels: Labels, shape: tuple[int, ...] = (20, 18, 15)) -> np.ndarray:
    """Clumps of every class, of all sizes, with holes."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=shape), 0.8)
    edges = np.quantile(smooth, [0.7, 0.82, 0.92][: len(labels.values) - 1])
    return np.array(labels.values, np.uint8)[np.digitize(smooth, edges)]


@pytest.mark.parametrize("seed", range(3))
def test_largest_component_equals_monai(seed: int) -> None:
    mask = noise(seed, CLASSES)
    one = KeepLargestConnectedComponent(applied_labels=[1], connectivity=1)(torch.from_numpy(mask.copy())[None])
    assert connected(mask == 1, connectivity=1).max() > 1
    np.testing.assert_array_equal(clean_mask(mask, CLASSES, keep_largest_component=["one"]), one[0].numpy())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("voxels", [2, 5, 40])
def test_small_components_equal_scikit_image(seed: int, voxels: int) -> None:
    mask = noise(seed, CLASSES)
    parts = connected(mask == 2, connectivity=1)
    small = [part for part in range(1, parts.max() + 1) if (parts == part).sum() < voxels]
    expected = np.where(np.isin(parts, small), 0, mask)
    assert (expected != mask).any()
    got = clean_mask(mask, CLASSES, voxel_ml=0.003, minimum_volume_ml={"two": voxels * 0.003})
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("seed", range(3))
def test_holes_equal_scipy_where_they_are_background(seed: int) -> None:
    mask = noise(seed, CLASSES)
    mask[2:12, 2:12, 2:12] = 1
    mask[4:9, 4:9, 4:9] = 2
    mask[5, 5, 5], mask[10, 10, 10] = 0, 0
    closed = ndimage.binary_fill_holes(mask == 1)
    expected = np.where(closed & (mask == 0), 1, mask)
    assert expected[10, 10, 10] == expected[5, 5, 5] == 1
    assert expected[6, 6, 6] == 2, "a class inside a hole stays"
    np.testing.assert_array_equal(clean_mask(mask, CLASSES, fill_holes=["one"]), expected)


def test_holes_of_a_lonely_class_equal_monai() -> None:
    mask = (noise(7, CLASSES) == 0).astype(np.uint8)
    filled = FillHoles(applied_labels=[1], connectivity=1)(torch.from_numpy(mask.copy())[None])[0].numpy()
    assert (filled != mask).any()
    np.testing.assert_array_equal(clean_mask(mask, CLASSES, fill_holes=["one"]), filled)


def test_a_bay_at_the_edge_is_no_hole() -> None:
    mask = np.ones((5, 5), np.uint8)
    mask[2, 2] = mask[0, 3] = 0
    assert clean_mask(mask, CLASSES, fill_holes=["one"]).tolist() == [[1, 1, 1, 0, 1], *[[1] * 5] * 4]


def test_little_enhancing_tumour_becomes_necrosis() -> None:
    """BraTS's rule, and its codes: the whole tumour and the tumour core stay as they are."""
    mask = noise(1, BRATS)
    voxels = int((mask == 4).sum())
    ml = voxels * 0.001
    kept = clean_mask(mask, BRATS, voxel_ml=0.001, minimum_total_ml={"active": ml})
    np.testing.assert_array_equal(kept, mask)
    cleared = clean_mask(mask, BRATS, voxel_ml=0.001, minimum_total_ml={"active": ml + 0.001})
    np.testing.assert_array_equal(cleared, np.where(mask == 4, 1, mask))
    gone = clean_mask(mask, CLASSES, voxel_ml=1.0, minimum_total_ml={"one": 1e6})
    np.testing.assert_array_equal(gone, np.where(mask == 1, 0, mask))


@pytest.mark.parametrize("target", BRATS.regions)
def test_a_part_of_a_region_goes_with_what_is_inside_it_and_leaves_what_is_around(target: str) -> None:
    mask = noise(2, BRATS)
    inside = {name: np.isin(mask, values) for name, values in BRATS.regions.items()}
    parts = connected(inside[target], connectivity=1)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    stray = (parts > 0) & (parts != sizes.argmax())
    assert stray.any()
    got = clean_mask(mask, BRATS, keep_largest_component=[target])
    names = list(BRATS.regions)
    for name, values in BRATS.regions.items():
        within = names.index(name) >= names.index(target)
        np.testing.assert_array_equal(np.isin(got, values), inside[name] & ~stray if within else inside[name])


def test_a_hole_of_a_region_is_filled_from_the_regions_around() -> None:
    mask = np.full((7, 7, 7), 2, np.uint8)
    mask[2:5, 2:5, 2:5] = 1
    mask[3, 3, 3] = 2  # oedema inside the core: a hole of the core, none of the whole
    assert clean_mask(mask, BRATS, fill_holes=["core"])[3, 3, 3] == 1
    np.testing.assert_array_equal(clean_mask(mask, BRATS, fill_holes=["whole"]), mask)


def test_holes_are_filled_after_a_stray_part_is_removed() -> None:
    mask = np.zeros((7, 7, 7), np.uint8)
    mask[1:6, 1:6, 1:6] = 1
    mask[3, 3, 3] = mask[0, 0, 0] = mask[0, 0, 1] = 2
    got = clean_mask(mask, CLASSES, keep_largest_component=["two"], fill_holes=["one"])
    assert (got[1:6, 1:6, 1:6] == 1).all()
    assert got[0, 0, 0] == 2


def test_the_input_stays_and_nothing_is_made_of_nothing() -> None:
    mask = noise(3, CLASSES)
    before = mask.copy()
    clean_mask(mask, CLASSES, keep_largest_component=["one", "two"], fill_holes=["one"])
    np.testing.assert_array_equal(mask, before)
    empty = np.zeros((4, 4), np.int16)
    cleaned = clean_mask(empty, CLASSES, keep_largest_component=["one"], fill_holes=["two"])
    assert cleaned.dtype == np.int16
    assert not cleaned.any()


def test_mistakes_are_named() -> None:
    mask = noise(3, CLASSES)
    with pytest.raises(ConfigError, match=r"^fill_holes: unknown target 'twoo'\n.*did you mean 'two'"):
        clean_mask(mask, CLASSES, fill_holes=["twoo"])
    with pytest.raises(ConfigError, match=r"^fill_hole: no such cleaning step\n.*did you mean 'fill_holes'"):
        clean_mask(mask, CLASSES, fill_hole=["two"])
    with pytest.raises(ConfigError, match="a picture has no volume"):
        clean_mask(mask[0], CLASSES, minimum_volume_ml={"one": 1.0})


def test_transform_takes_the_volume_of_a_voxel_from_the_file() -> None:
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1:3, 1:3, 1:3], mask[5, 5, 5] = 1, 1
    affine = np.diag([-2.0, 2.0, 5.0, 1.0])  # 0.02 ml
    case = {"pred": MetaTensor(torch.from_numpy(mask[None]), affine=torch.eye(4)), "native_affine": affine}
    for ml, voxels in ((0.02, 9), (0.021, 8), (0.16, 8), (0.17, 0)):
        step = CleanMaskd(CLASSES, steps={"minimum_volume_ml": {"one": ml}})
        result = step(case)
        assert int(result["pred"].sum()) == voxels
        assert result["pred"].shape == (1, 6, 6, 6)
        assert result["postprocessing"] == {"minimum_volume_ml": {"one": ml}, "changed_voxels": 9 - voxels}
        assert torch.equal(result["pred"].affine, torch.from_numpy(affine))
