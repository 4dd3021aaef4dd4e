"""The picture of a case: orientation, contours, edge cases. Pixels are read back from the PNG."""

from __future__ import annotations

import itertools
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff
from PIL import Image as Picture

from medseg.core.labels import Labels
from medseg.data.files.images import Image
from medseg.metrics.score import score_case
from medseg.review.overlay import overlay_figure

LABELS = Labels(classes={"background": 0, "anterior": 1, "posterior": 2})
SHAPE, SPACING_MM = (20, 30, 16), (1.0, 1.5, 3.0)


def make_image(array: np.ndarray, affine: np.ndarray | None = None, **codes: int) -> Image:
    affine = np.diag([*SPACING_MM, 1.0]) if affine is None else affine
    return Image(array[None].astype(np.float32), affine, Path("case.nii.gz"), **codes)


def make_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image without any symmetry, truth and prediction, on RAS axes."""
    rng = np.random.default_rng(0)
    image = rng.random(SHAPE) + np.linspace(0, 2, SHAPE[0])[:, None, None]
    truth = np.zeros(SHAPE, dtype=np.uint8)
    truth[3:10, 5:14, 4:9], truth[8:14, 14:20, 6:12] = 1, 2
    return image, truth, np.roll(truth, (1, 2, 0), axis=(0, 1, 2))


def pixels(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    with Picture.open(BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def axial_panel(png: bytes) -> np.ndarray:
    """Grey values of the first panel: the first run of columns that are not mostly white, and their rows."""
    picture = pixels(png)[60:-90]  # without title and legend
    inside = (picture < 250).all(axis=2)
    columns = np.flatnonzero(inside.mean(axis=0) > 0.4)
    columns = columns[: np.flatnonzero(np.diff(columns, append=10**6) > 1)[0] + 1]
    rows = np.flatnonzero(inside[:, columns].mean(axis=1) > 0.4)
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean(axis=2)


@pytest.mark.parametrize("axis", [0, 1])
def test_right_is_left_and_anterior_is_up(axis: int) -> None:
    image = np.full(SHAPE, 10.0)
    upper = [slice(None)] * 3
    upper[axis] = slice(SHAPE[axis] // 2, None)  # RAS: the higher half is right, or anterior
    image[tuple(upper)] = 60.0
    image[np.random.default_rng(0).random(SHAPE) < 0.03] = 90.0  # so that 60 is not white like the page
    image[0, 0, 0] = 0.0  # the background value: nothing is cropped
    empty = np.zeros(SHAPE, np.uint8)
    panel = axial_panel(overlay_figure(make_image(image), empty, empty, labels=LABELS, title="case"))
    middle, centre = panel.shape[0] // 2, panel.shape[1] // 2
    dark = panel[:middle, centre + 2 :] if axis == 0 else panel[middle + 2 :, :centre]
    assert panel.shape[0] / panel.shape[1] == pytest.approx(30 * 1.5 / 20, rel=0.03)  # in mm, not in voxels
    assert np.median(panel[: middle - 2, : centre - 2]) > 120
    assert np.median(dark) < 20


STORED = list(zip(itertools.permutations(range(3)), itertools.product((-1, 1), (-1, 1), (1, -1)), strict=False))


@pytest.mark.parametrize(("axes", "flips"), STORED)
def test_the_picture_does_not_depend_on_how_the_file_stores_its_axes(axes, flips) -> None:
    image, truth, prediction = make_case()
    expected = overlay_figure(make_image(image), truth, prediction, labels=LABELS, title="case")
    orientation = np.stack([axes, flips], axis=1).astype(float)
    stored = [np.ascontiguousarray(apply_orientation(volume, orientation)) for volume in (image, truth, prediction)]
    affine = np.diag([*SPACING_MM, 1.0]) @ inv_ornt_aff(orientation, SHAPE)
    got = overlay_figure(make_image(stored[0], affine), stored[1][None], stored[2], labels=LABELS, title="case")
    assert (pixels(got) == pixels(expected)).all()


def test_contours_of_both_are_drawn() -> None:
    image, truth, prediction = make_case()
    empty = np.zeros_like(truth)
    pictures = [
        pixels(overlay_figure(make_image(image), one, other, labels=LABELS, title="case"))
        for one, other in ((truth, prediction), (truth, empty), (empty, prediction), (truth, truth))
    ]
    for one, other in itertools.combinations(pictures, 2):
        assert (one != other).any()
    # Only targets are coloured: without any, panels are grey.
    blank = pixels(overlay_figure(make_image(image), empty, empty, labels=LABELS, title="case"))[:-90]
    assert (blank.max(axis=2) - blank.min(axis=2)).max() <= 3


def test_own_colours_are_used() -> None:
    image, truth, prediction = make_case()
    labels = Labels(classes=LABELS.classes, colours={"anterior": (255, 0, 0), "posterior": (0, 0, 255)})
    picture = pixels(overlay_figure(make_image(image), truth, prediction, labels=labels, title="case"))
    for colour in labels.colours.values():
        assert (picture == colour).all(axis=2).any()


@pytest.mark.parametrize("state", ["scored", "missed", "invented", "absent"])
def test_every_state_and_an_oblique_grid_can_be_drawn(state: str) -> None:
    image, truth, prediction = make_case()
    if state in ("missed", "absent"):
        prediction = np.zeros_like(prediction)
    if state in ("invented", "absent"):
        truth = np.zeros_like(truth)
    scores = score_case(prediction, truth, case="case_1", labels=LABELS, spacing_mm=SPACING_MM, tolerance_mm=1)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    oblique = make_image(image, turn @ np.diag([*SPACING_MM, 1.0]))
    png = overlay_figure(oblique, truth, prediction, labels=LABELS, title="case_1 $^", scores=scores)
    assert pixels(png).shape[1] > 1000


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_a_constant_image_can_be_drawn(constant: float) -> None:
    _, truth, prediction = make_case()
    overlay_figure(make_image(np.full(SHAPE, constant)), truth, prediction, labels=LABELS, title="case")


def test_a_picture_is_shown_upright() -> None:
    image = np.zeros((40, 60))
    image[1:20, 1:30] = 1.0  # rows down, columns right: the upper left quarter
    image[1:, 1:] += 0.1
    empty = np.zeros(image.shape, np.uint8)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    png = overlay_figure(make_image(image, affine), empty, empty, labels=LABELS, title="picture")
    body = pixels(png)[65:-65, 20:-20].mean(axis=2)
    middle, centre = body.shape[0] // 2, body.shape[1] // 2
    assert np.median(body[: middle - 5, : centre - 5]) > 200
    assert np.median(body[middle + 5 :, centre + 5 :]) < 100
    assert np.median(body[: middle - 5, centre + 5 :]) < 100
