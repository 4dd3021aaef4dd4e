"""Each transform by itself: what it does to an image, and the keys of a config that set it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy import ndimage

from medseg.config.editor import config_schema
from medseg.config.schema import AugmentationConfig
from medseg.core.signatures import signature_of
from medseg.core.types import Degrees, Deviation, Factors, Fraction, Proportions
from medseg.data.training.augment import TRANSFORMS
from medseg.data.training.augment.blur import Blur
from medseg.data.training.augment.low_resolution import resize_matrix
from medseg.data.training.augment.resampling import margin
from tests.data.training.augmenting import batch, only, transforms, warp_of


@pytest.mark.parametrize("shape", [(18, 21, 16), (18, 21), (18, 21, 1)])
@pytest.mark.parametrize("spacing", [None, (1.0, 0.7, 2.5)])
def test_rotation_scaling_and_flips_agree_with_scipy(shape: tuple[int, ...], spacing: Any) -> None:
    spacing = spacing and spacing[: len(shape)]
    augment = only("rotation", "scale", flip_axes=(0, 1), spacing_mm=spacing, rotation_degrees=30.0)
    data = batch(shape)
    done = augment(data)
    flips = set()
    for number, sample in enumerate(data["sample"].tolist()):
        draw = warp_of(augment, sample, len(shape))
        assert draw.matrix is not None
        flips.add(draw.flips)
        mirror = np.diag([-1.0 if axis in draw.flips else 1.0 for axis in range(len(shape))])
        matrix = draw.matrix @ mirror
        in_mm = matrix if spacing is None else np.diag(spacing) @ matrix @ np.linalg.inv(np.diag(spacing))
        factor = abs(np.linalg.det(in_mm)) ** (1 / len(shape))
        np.testing.assert_allclose(in_mm @ in_mm.T, factor**2 * np.eye(len(shape)), atol=1e-9)  # no shear
        centre = (np.array(shape) - 1) / 2
        for channel in range(2):
            expected = ndimage.affine_transform(
                data["image"][number, channel].double().numpy(),
                matrix,
                centre - matrix @ centre,
                order=1,
                mode="nearest",
            )
            np.testing.assert_allclose(done["image"][number, channel].numpy(), expected, atol=2e-4)
        expected = ndimage.affine_transform(
            data["label"][number, 0].numpy(), matrix, centre - matrix @ centre, order=0, mode="nearest"
        )
        assert (done["label"][number, 0].numpy() == expected).mean() > 0.999
    assert len(flips) > 1


@pytest.mark.parametrize("shape", [(18, 21, 16), (18, 21)])
@pytest.mark.parametrize("names", [("stretch",), ("shift",), ("rotation", "stretch", "shift")])
def test_stretches_and_shifts_agree_with_scipy(shape: tuple[int, ...], names: tuple[str, ...]) -> None:
    augment = only(*names, stretch=(0.7, 1.4), shift_voxels=4.0, flip_axes=(0,))
    data = batch(shape)
    done = augment(data)
    moved = []
    for number, sample in enumerate(data["sample"].tolist()):
        draw = warp_of(augment, sample, len(shape))
        assert draw.matrix is not None
        matrix = draw.matrix @ np.diag([-1.0 if axis in draw.flips else 1.0 for axis in range(len(shape))])
        shift = np.zeros(len(shape)) if draw.shift is None else draw.shift
        assert np.abs(shift).max() <= 4.0
        moved.append(tuple(shift))
        if names == ("stretch",):
            factors = 1 / np.diag(draw.matrix)
            assert ((factors >= 0.7) & (factors <= 1.4)).all()
            assert len(set(factors)) == len(shape), "a factor for each axis"
        centre = (np.array(shape) - 1) / 2
        image = data["image"][number, 0].double().numpy()
        offset = centre - matrix @ centre + shift
        expected = ndimage.affine_transform(image, matrix, offset, order=1, mode="nearest")
        np.testing.assert_allclose(done["image"][number, 0].numpy(), expected, atol=2e-4)
        label = data["label"][number, 0].numpy()
        expected = ndimage.affine_transform(label, matrix, offset, order=0, mode="nearest")
        assert (done["label"][number, 0].numpy() == expected).mean() > 0.999
    assert (len(set(moved)) > 1) == ("shift" in names)


def test_flips_alone_are_exact() -> None:
    data, augment = batch(count=16), only(flip_axes=(0, 2))
    done = augment(data)
    for number, sample in enumerate(data["sample"].tolist()):
        axes = [axis + 1 for axis in warp_of(augment, sample, 3).flips]
        assert torch.equal(done["image"][number], data["image"][number].flip(axes))
        assert torch.equal(done["label"][number], data["label"][number].flip(axes))
    assert torch.equal(only()(data)["image"], data["image"])


def test_blur_is_a_gaussian() -> None:
    data = batch()
    done = only("blur", blur_sigma_voxels=(0.8, 0.8))(data)["image"]
    for number in range(4):
        for channel in range(2):
            expected = ndimage.gaussian_filter(
                data["image"][number, channel].double().numpy(), 0.8, mode="nearest", radius=3
            )
            np.testing.assert_allclose(done[number, channel].numpy(), expected, atol=1e-5)


def test_low_resolution_keeps_straight_lines_and_loses_detail() -> None:
    ramp = torch.arange(20.0).view(1, 1, 20, 1, 1).expand(1, 1, 20, 8, 8)
    checks = torch.arange(20).view(1, 1, 20, 1, 1).expand(1, 1, 20, 8, 8) % 2 * 2.0 - 1
    label, sample = torch.zeros(1, 1, 20, 8, 8, dtype=torch.uint8), torch.tensor([0])
    augment = only("low_resolution", low_resolution_zoom=(0.5, 0.5))
    done = augment({"image": ramp, "label": label, "sample": sample})["image"]
    np.testing.assert_allclose(done[0, 0, 1:-1, 4, 4].numpy(), np.arange(1, 19), atol=1e-5)
    assert augment({"image": checks, "label": label, "sample": sample})["image"].abs().max() < 1e-5
    whole = only("low_resolution", low_resolution_zoom=(1.0, 1.0))
    np.testing.assert_allclose(whole({"image": ramp, "label": label, "sample": sample})["image"], ramp, atol=1e-5)


def test_intensity_changes_do_what_they_say() -> None:
    data = batch(count=8)
    image = data["image"].double().numpy()
    axes = (2, 3, 4)

    noise = (only("noise", noise_std=0.4)(data)["image"].numpy() - image).reshape(8, -1)
    assert abs(noise.mean()) < 0.01
    assert (noise.std(1) < 0.42).all()
    assert noise.std(1).max() > 0.2
    assert np.unique(noise.std(1)).size == 8

    ratio = only("brightness")(data)["image"].numpy() / image
    assert (ratio.std(axes) < 1e-4).all()
    assert np.unique(ratio.mean(axes).round(4)).size == 16, "each channel has a factor of its own"
    assert (np.abs(np.log(ratio.mean(axes))) <= np.log(1 / 0.75) + 1e-4).all()

    changed = only("contrast")(data)["image"].numpy()
    assert (changed.max(axes) <= image.max(axes) + 1e-5).all()
    assert (changed.min(axes) >= image.min(axes) - 1e-5).all()
    lower = only("contrast", contrast=(0.5, 0.5))(data)["image"].numpy()
    mean = image.mean(axes, keepdims=True)
    np.testing.assert_allclose(lower, (image - mean) * 0.5 + mean, atol=1e-5)

    changed = only("gamma")(data)["image"].numpy()
    np.testing.assert_allclose(changed.mean(axes), image.mean(axes), atol=1e-4)
    np.testing.assert_allclose(changed.std(axes), image.std(axes), rtol=1e-4)
    order = np.argsort(image[0, 0].ravel())
    assert (np.diff(changed[0, 0].ravel()[order]) >= -1e-6).all(), "gamma keeps the order of intensities"
    assert np.abs(changed - image).max() > 0.05
    constant = data | {"image": torch.full_like(data["image"], 3.0)}
    for name in ("contrast", "gamma", "blur", "low_resolution"):
        np.testing.assert_allclose(only(name)(constant)["image"], 3.0, rtol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMS.own)
def test_options_are_keys_of_the_config(name: str) -> None:
    """Every one: its name, default and description there, and its bounds in the config as in Python."""
    part, schema = TRANSFORMS[name], config_schema()["$defs"]["AugmentationConfig"]["properties"]
    assert signature_of(part.load()) == part.arguments == part.options, "the source says what the class says"
    for key, option in part.options.items():
        assert key.startswith(name)
        assert option.help[0].isupper()
        assert option.help.endswith(".")
        assert schema[key]["description"] == option.help
        assert schema[key]["default"] == option.default == getattr(AugmentationConfig(), key)
        assert TypeAdapter(option.kind).validate_python(option.default, strict=True) == option.default
        refused: list[Any] = [-1] if option.kind in (Fraction, Deviation, Degrees) else [[-1]]
        if option.kind in (Fraction, Degrees):
            refused.append(181)
        if option.kind in (Factors, Proportions):
            refused += [[1.0, 0.5], [0.0, 1.0], [0.5], [0.5, 0.6, 0.7]]
        for value in refused:
            with pytest.raises(ValueError, match=key):
                part.load()(**{key: value})
            with pytest.raises(ValidationError, match=key):
                AugmentationConfig(**{key: value})
    ranges = [key for key, option in part.options.items() if option.kind in (Factors, Proportions)]
    for key in ranges:
        with pytest.raises(ValueError, match="low to high"):
            part.load()(**{key: [0.9, 0.6]})


def test_no_key_belongs_to_two_transforms() -> None:
    keys = [key for part in TRANSFORMS.own.values() for key in part.options]
    assert len(set(keys)) == len(keys)
    own = {"enabled", "crop_scale", "category_cap", "photometric", "plugins"}
    assert set(AugmentationConfig.model_fields) == set(keys) | own


def test_matrices_keep_constants() -> None:
    for matrix in (Blur().matrix(9, 1.0), resize_matrix(5, 9), resize_matrix(9, 1)):
        np.testing.assert_allclose(matrix.sum(1), 1)


@pytest.mark.parametrize("shape", [(30, 26, 22), (30, 26)])
def test_bends_are_smooth_shifts_along_each_axis(shape: tuple[int, ...]) -> None:
    """Of an image that holds its own coordinates, the result is where each voxel was taken from."""
    dims = len(shape)
    where = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij"))
    data = {
        "image": where.expand(3, *where.shape),
        "label": (where[:1] > 12).to(torch.uint8).expand(3, 1, *shape),
        "sample": torch.arange(3),
    }
    bent = only("bend", bend_voxels=1.0)(data)
    shift = bent["image"] - where
    inside = (slice(None), slice(None), *[slice(8, -8)] * dims)  # away from the border, which is repeated
    assert 0.3 < shift[inside].abs().max() < 3 * 4  # three waves an axis, of standard deviation 1
    assert not torch.equal(shift[0], shift[1])
    for axis in range(2, 2 + dims):
        assert shift[inside].diff(dim=axis).abs().max() < 1  # nothing folds
        for other in range(2, axis):  # a sum of one wave along each axis: no mixed second difference
            assert shift[inside].diff(dim=axis).diff(dim=other).abs().max() < 1e-3
    wrong = bent["label"][:, 0] != (bent["image"][:, 0] > 12.5)
    assert (wrong & ((bent["image"][:, 0] - 12.5).abs() > 1e-3)).sum() == 0
    still = only("bend", bend_voxels=0.0)(data)
    torch.testing.assert_close(still["image"], data["image"], atol=1e-4, rtol=0)


def test_a_margin_is_cut_away_and_fills_the_corners() -> None:
    """The middle comes out untouched; what is turned into the patch is the image around it, not a repeated border."""
    data = batch((36, 36), count=2)
    middle = (slice(None), slice(None), slice(8, 28), slice(8, 28))
    cut = only(patch_size=(20, 20))(data)
    assert torch.equal(cut["image"], data["image"][middle])
    assert torch.equal(cut["label"], data["label"][middle])
    turned = only("rotation", "scale", rotation_degrees=45, scale=(0.8, 0.8), patch_size=(20, 20))(data)
    whole = only("rotation", "scale", rotation_degrees=45, scale=(0.8, 0.8))(data)
    torch.testing.assert_close(turned["image"], whole["image"][middle], atol=1e-4, rtol=1e-4)
    assert torch.equal(turned["label"], whole["label"][middle])


@pytest.mark.parametrize("size", [(32, 48, 32), (64, 64), (16, 128, 128)])
def test_the_margin_is_where_corners_come_to_lie(size: tuple[int, ...]) -> None:
    corners = np.array(np.meshgrid(*[[-n / 2, n / 2] for n in size], indexing="ij")).reshape(len(size), -1)
    reach = np.abs(corners).max(axis=1)
    angle = np.deg2rad(10)
    for first, second in [(0, 1), (1, 0), (1, 2), (2, 1)] if len(size) == 3 else [(0, 1), (1, 0)]:
        turn = np.eye(len(size))
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        reach = np.maximum(reach, np.abs(turn @ corners).max(axis=1))
    wanted = [min(int(np.ceil(r / 0.9 - n / 2)), int(np.ceil(0.3 * n))) for r, n in zip(reach, size, strict=True)]
    turned = {"rotation_degrees": 10, "scale": (0.9, 1.1)}
    assert margin(size, transforms(**turned).values()) == wanted
    assert margin(size, transforms(**turned, bend_probability=1, bend_voxels=2).values()) == [
        min(more + 4, int(np.ceil(0.3 * n))) for more, n in zip(wanted, size, strict=True)
    ]
    assert margin(size, transforms(**turned, shift_probability=1, shift_voxels=3).values()) == [
        min(more + 3, int(np.ceil(0.3 * n))) for more, n in zip(wanted, size, strict=True)
    ]
    still = {"rotation_probability": 0, "scale_probability": 0, "flip_axes": (0, 1)}
    assert margin(size, transforms(**still).values()) == [0] * len(size)
