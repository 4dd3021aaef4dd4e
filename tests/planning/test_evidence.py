"""What voxels say of slices and mirror images, on volumes that are drawn and on real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medseg.data.cases.coarseness import coarseness, spacing_doubt, thick_slices
from medseg.data.cases.dataset import read_dataset
from medseg.data.phantom import draw_case
from medseg.planning.evidence import GRID, mirror_likeness, thumbnail, unlike_its_mirror

ONE_MM = np.ones((12, 3))


def tissue(seed: int = 0, shape: tuple[int, ...] = (64, 64, 64), noise: float = 0.0) -> np.ndarray:
    """(1, *shape): random blobs, as smooth along every axis, on which noise lies (a share of their range)."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.standard_normal(shape), 2.5)
    return (smooth / np.ptp(smooth) + random.normal(0, noise / 2, shape) if noise else smooth)[None].astype(np.float32)


def coarseness_of(volume: np.ndarray) -> tuple[float, ...]:
    return coarseness(volume, np.ones(volume.shape[1:], bool))


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_finds_how_thick_slices_are_along_any_axis(axis: int, noise: float) -> None:
    volume = tissue(noise=noise)
    assert max(coarseness_of(volume)) < 1.3
    for apart in (2, 4):
        dropped = np.take(volume, range(0, 64, apart), axis=axis + 1)
        found = coarseness_of(dropped)
        assert found[axis] == pytest.approx(apart, rel=0.2)
        assert all(value < 1 for other, value in enumerate(found) if other != axis)
    thick = tissue().swapaxes(axis + 1, 3).reshape(1, 64, 64, 16, 4).mean(-1).swapaxes(axis + 1, 3)
    assert coarseness_of(thick)[axis] == pytest.approx(4, rel=0.25), "the mean of four slices"


def test_noise_alone_is_as_coarse_along_every_axis() -> None:
    noise = np.random.default_rng(0).standard_normal((1, 64, 64, 20))
    assert coarseness_of(noise) == pytest.approx((1, 1, 1), abs=0.05)


def test_interpolated_slices_are_no_thick_ones() -> None:
    smooth = ndimage.zoom(tissue()[0, :, :, ::4], (1, 1, 4), order=1)[None]
    assert max(coarseness_of(smooth)) < 1.5
    assert coarseness_of(smooth)[2] < 0.9


def test_only_the_foreground_counts() -> None:
    """Along an axis on which much background lies, neighbours would look alike."""
    volume, foreground = np.full((1, 64, 64, 64), -7.0), np.zeros((64, 64, 64), bool)
    volume[..., 20:44] = 5 + tissue()[..., 20:44]
    foreground[..., 20:44] = True
    assert coarseness(volume, foreground) == pytest.approx((1, 1, 1), abs=0.25)


@pytest.mark.parametrize("shape", [(8, 8, 1), (1, 1, 1), (8, 8), (9,)])
def test_what_says_nothing_is_no_evidence(shape: tuple[int, ...]) -> None:
    assert coarseness_of(np.full((2, *shape), 3)) == (1.0,) * len(shape), "one value"
    assert coarseness_of(np.full((2, *shape), np.nan)) == (1.0,) * len(shape)
    assert coarseness_of(tissue(shape=shape))[-1] == 1.0 or shape == (8, 8)


def test_headers_and_voxels_are_told_apart() -> None:
    coarse = np.array([coarseness_of(tissue(seed)[..., ::4]) for seed in range(3)])
    hidden = thick_slices(np.ones((3, 3)), coarse)
    assert hidden.axis == 2
    assert hidden.evidence == pytest.approx(4, rel=0.2)
    assert hidden.headers == 1.0
    honest = thick_slices(np.tile([0.5, 3.0, 0.5], (3, 1)), np.ones((3, 3)))
    assert (honest.axis, honest.evidence, honest.headers) == (1, 1.0, 6.0)


def test_doubts_one_millimetre_where_slices_are_thick() -> None:
    shapes, thick = np.tile([256, 256, 30], (12, 1)), np.tile([0.5, 0.5, 3.0], (12, 1))
    said = spacing_doubt(ONE_MM, shapes, thick)
    assert said.startswith(
        "all 12 cases say 1 x 1 x 1 mm, which cannot be true: neighbours along axis 2 (of 30 slices)"
    )
    assert "as voxels 3 apart" in said
    assert spacing_doubt(ONE_MM * [1, 1, 3], shapes, thick) == "", "the headers say so themselves"
    assert spacing_doubt(ONE_MM, shapes, np.ones((12, 3))) == "", "a thin slab of isotropic voxels"
    assert spacing_doubt(ONE_MM * np.linspace(1, 1.2, 12)[:, None], shapes, thick) == "", "somebody wrote these"
    assert spacing_doubt(np.ones((12, 2)), shapes[:, :2], thick[:, 1:]) == "", "pictures"
    assert spacing_doubt(ONE_MM[:1], shapes[:1], thick[:1]).startswith("the case says 1 x 1 x 1 mm")


def test_slices_whose_number_varies_much_need_less_evidence() -> None:
    somewhat = np.tile([0.7, 0.7, 1.7], (12, 1))
    fixed, varied = np.tile([256, 256, 60], (12, 1)), np.tile([256, 256, 60], (12, 1))
    varied[:6, 2] = 20
    assert spacing_doubt(ONE_MM, fixed, somewhat) == ""
    assert "(of 20 to 60 slices)" in spacing_doubt(ONE_MM, varied, somewhat)
    assert spacing_doubt(ONE_MM, varied, np.tile([0.7, 0.7, 1.3], (12, 1))) == "", "slabs of any height"
    varied[0, 0] = 200
    assert spacing_doubt(ONE_MM, varied, somewhat) == "", "crops of any size"


def scene(seed: int) -> np.ndarray:
    """(1, 60, 90): bright above and dark below, with blobs of its own; nothing tells left from right."""
    blobs = 0.5 * tissue(seed, (60, 90)) / np.abs(tissue(seed, (60, 90))).max()
    return np.linspace(1, 0, 60)[None, :, None] + blobs


def test_a_scene_may_be_mirrored_sideways_only() -> None:
    likeness = mirror_likeness(np.stack([thumbnail(scene(seed)) for seed in range(20)]))
    assert likeness[0] < 0
    assert likeness[1] > 0.9
    assert unlike_its_mirror(likeness) == [0]


@pytest.mark.parametrize("cases", [1, 2, 3, 20])
@pytest.mark.parametrize("shape", [(60, 90), (20, 30, 24)])
def test_images_that_have_nothing_in_common_are_not_one_sided(cases: int, shape: tuple[int, ...]) -> None:
    small = np.stack([thumbnail(tissue(seed, shape)) for seed in range(cases)])
    assert small.shape == (cases, *(GRID,) * len(shape))
    assert unlike_its_mirror(mirror_likeness(small)) == []


def test_a_thumbnail_does_not_depend_on_scale_and_bears_what_is_not_finite() -> None:
    image = scene(0)
    np.testing.assert_allclose(thumbnail(1000 * image + 5), thumbnail(image), atol=1e-4)
    assert np.ptp(thumbnail(np.full((3, 40, 40), 7))) == 0
    image[0, 0, 0] = np.nan
    assert np.isfinite(thumbnail(image)).all()


def test_slices_of_phantoms_that_were_dropped_are_missed() -> None:
    """Their headers are honest, and vary: piecewise constant tissue is the hardest to judge."""
    drawn = [np.moveaxis(draw_case(np.random.default_rng([0, n]), (48, 48, 48))[0], -1, 0) for n in range(3)]
    sparse = [coarseness(volume[..., ::4], volume[0, ..., ::4] != 0) for volume in drawn]
    whole = [coarseness(volume, volume[0] != 0) for volume in drawn]
    assert np.median(sparse, axis=0)[2] > 2 > np.median(whole, axis=0).max()


def test_slices_of_real_brains(test_data: Path) -> None:
    case = read_dataset(test_data / "Dataset015_BraTS2modal").cases[0]
    image = case.read_image().array
    image = image[:, 40:200, 40:200]
    foreground = image[0] != image[0, 0, 0, 0]
    assert max(coarseness(image, foreground)) < 1.3
    for apart in (2, 4, 6):
        found = coarseness(image[..., ::apart], foreground[..., ::apart])
        assert found[2] == pytest.approx(apart, rel=0.25), "rather too little than too much"


def test_doubts_the_spacing_that_nobody_published(test_data: Path) -> None:
    cases = read_dataset(test_data / "Dataset110_LGGFLAIR").cases[::6]
    images = [case.read_image() for case in cases]
    coarse = np.array([coarseness_of(image.array) for image in images])
    shapes = np.array([image.shape for image in images])
    assert "1 x 1 x 1 mm, which cannot be true" in spacing_doubt(np.ones((len(cases), 3)), shapes, coarse)
