from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy import ndimage

from medseg.config.editor import config_schema
from medseg.config.schema import AugmentationConfig
from medseg.core.errors import ConfigError
from medseg.core.signatures import signature_of
from medseg.core.types import Degrees, Deviation, Factors, Fraction, Proportions
from medseg.data.training.augment import TRANSFORMS
from medseg.data.training.augment.base import Spatial, Transform, Warp
from medseg.data.training.augment.blur import Blur
from medseg.data.training.augment.low_resolution import resize_matrix
from medseg.data.training.augment.pipeline import Augment
from medseg.data.training.augment.resampling import combined, margin
from medseg.data.training.streams import stream

NAMES = [name for name, part in TRANSFORMS.own.items() if f"{name}_probability" in part.options]


def transforms(**options: Any) -> dict[str, Transform]:
    """Those of the table, by the keys of a config."""
    keys = {name: part.options.keys() & options.keys() for name, part in TRANSFORMS.own.items()}
    assert options.keys() == set().union(*keys.values())
    return {name: TRANSFORMS[name].builder()(**{key: options[key] for key in mine}) for name, mine in keys.items()}


def built(seed: int = 5, spacing_mm: Any = None, patch_size: Any = None, **options: Any) -> Augment:
    return Augment(seed, transforms(**options), spacing_mm, patch_size)


def only(*names: str, **options: Any) -> Augment:
    """An `Augment` that always does what is named, and nothing else."""
    return built(**({f"{name}_probability": float(name in names) for name in NAMES} | options))


def warp_of(augment: Augment, sample: int, dims: int) -> Warp:
    """The one map of a sample."""
    drawn = augment.draw(sample, 2, dims)
    return combined([drawn[name] for name in augment.spatial if name in drawn])


def batch(shape: tuple[int, ...] = (18, 21, 16), count: int = 4, channels: int = 2) -> dict[str, Any]:
    """Smooth images of different intensities; the label is where the first channel is bright."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(count, channels, *shape))
    image = np.stack([[ndimage.gaussian_filter(c, 2) for c in one] for one in noise])
    image = image / image.std() + random.normal(size=(count, channels, *[1] * len(shape)))
    label = (image[:, :1] > np.median(image[:, :1])).astype(np.uint8)
    return {
        "image": torch.from_numpy(image).float(),
        "label": torch.from_numpy(label),
        "sample": torch.arange(count) + 7,
        "case": ["x"] * count,
    }


def at_once(augment: Augment, data: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and label as a GPU computes them: all samples together."""
    dims, channels = data["image"].ndim - 2, data["image"].shape[1]
    draws = [augment.draw(sample, channels, dims) for sample in data["sample"].tolist()]
    return augment.change(data["image"], data["label"], draws)


ALL = {f"{name}_probability": 0.7 for name in NAMES} | {"flip_axes": (0, 1), "bend_voxels": 1.0}


@pytest.mark.parametrize("shape", [(18, 21, 16), (18, 21)])
def test_a_sample_knows_nothing_of_its_batch(shape: tuple[int, ...]) -> None:
    data, augment = batch(shape), built(**ALL)
    before = {key: value.clone() for key, value in data.items() if isinstance(value, torch.Tensor)}
    whole = augment(data)
    assert all(torch.equal(data[key], value) for key, value in before.items()), "the batch itself is left alone"
    again = built(**ALL)(data)
    order = [2, 0, 3]
    other = augment({"image": data["image"][order], "label": data["label"][order], "sample": data["sample"][order]})
    for key in ("image", "label"):
        assert torch.equal(whole[key], again[key])
        assert torch.equal(other[key], whole[key][order])
        assert whole[key].shape == data[key].shape
        assert whole[key].dtype == data[key].dtype
    assert whole["case"] == data["case"]
    assert not torch.equal(built(seed=6, **ALL)(data)["image"], whole["image"])
    assert not torch.equal(augment(data | {"sample": data["sample"] + 1})["image"], whole["image"])
    assert set(whole["label"].unique().tolist()) <= {0, 1}
    assert torch.isfinite(whole["image"]).all()


@pytest.mark.parametrize("shape", [(18, 21, 16), (18, 21)])
@pytest.mark.parametrize("size", [None, 11])
def test_all_at_once_as_on_a_gpu_is_one_by_one(shape: tuple[int, ...], size: int | None) -> None:
    patch = None if size is None else (size,) * len(shape)
    chances = {f"{name}_probability": 0.3 for name in NAMES}
    data, augment = batch(shape, count=12), built(patch_size=patch, flip_axes=(0, 1), **chances)
    assert any(warp_of(augment, sample, len(shape)).matrix is None for sample in data["sample"].tolist())
    image, label = at_once(augment, data)
    expected = augment(data)
    assert torch.equal(label, expected["label"])
    torch.testing.assert_close(image, expected["image"], atol=1e-5, rtol=1e-5)


def test_channels_last_changes_no_bit() -> None:
    data, augment = batch(), built(**ALL)
    strided = data | {"image": data["image"].to(memory_format=torch.channels_last_3d)}
    assert torch.equal(augment(strided)["image"], augment(data)["image"])


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


def test_probabilities_and_ranges_hold() -> None:
    draws = [built(seed=0, scale_probability=0.0).draw(n, 1, 3) for n in range(2000)]
    for name, share in {"rotation": 0.3, "noise": 0.15, "gamma": 0.3, "blur": 0.1, "scale": 0, "flip": 0}.items():
        assert sum(name in drawn for drawn in draws) / 2000 == pytest.approx(share, abs=0.04), name
    scaled = [only("scale").draw(n, 1, 2)["scale"].matrix for n in range(500)]
    factors = np.array([1 / matrix[0, 0] for matrix in scaled])
    assert factors.min() >= 0.8
    assert factors.max() <= 1.25
    assert np.median(factors) == pytest.approx(1.0, abs=0.04)


class MadeUp(Spatial):
    """Draws much, and always."""

    def draw(self, random: np.random.Generator, spacing: np.ndarray) -> Warp:
        random.normal(size=100)
        return Warp()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", TRANSFORMS.own)
def test_a_transform_changes_no_draw_of_another(name: str, dims: int) -> None:
    """Switched off, taken out, of another strength, elsewhere in the order, beside a new one: the others stay."""
    every = transforms(**{f"{one}_probability": 0.5 for one in NAMES}, flip_axes=(0, 1))
    before = Augment(5, every)
    off = copy.copy(every[name])
    off.probability = 0.0
    others = {
        "off": every | {name: off},
        "out": {one: every[one] for one in every if one != name},
        "last": {one: every[one] for one in every if one != name} | {name: every[name]},
        "beside a new one": {"made_up": MadeUp(0.5)} | every,
    }
    for sample in range(12):
        drawn = before.draw(sample, 2, dims)
        for case, changed in others.items():
            after = Augment(5, changed).draw(sample, 2, dims)
            kept = set(every) - {name} if case in ("off", "out") else set(every)
            assert set(drawn) & kept == set(after) & kept, case
            for one in set(drawn) & kept:
                np.testing.assert_equal(after[one], drawn[one])
    assert {one for sample in range(60) for one in before.draw(sample, 2, dims)} == set(every), "all happen"


@pytest.mark.parametrize("form", [lambda augment, data: augment(data)["image"], lambda *given: at_once(*given)[0]])
@pytest.mark.parametrize("name", TRANSFORMS.own)
def test_what_is_switched_off_is_missing_and_nothing_else_changes(form: Any, name: str) -> None:
    """Samples to which a transform does not happen come out the same with it and without it, one by one or at once."""
    data = batch(count=24)
    every = transforms(**{f"{one}_probability": 0.5 for one in NAMES}, flip_axes=(0, 1))
    whole, without = Augment(5, every), Augment(5, {one: every[one] for one in every if one != name})
    images, others = form(whole, data), form(without, data)
    happens = [name in whole.draw(sample, 2, 3) for sample in data["sample"].tolist()]
    assert len(set(happens)) == 2 or name == "flip"
    for number, changed in enumerate(happens):
        if not changed:
            torch.testing.assert_close(others[number], images[number], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(images, others, atol=1e-3)


def test_streams_are_of_seed_sample_and_name() -> None:
    first = {(seed, sample, name): stream(seed, sample, name).random(50) for seed, sample, name in STREAMS}
    assert len({draws.tobytes() for draws in first.values()}) == len(STREAMS)
    for key, draws in first.items():
        np.testing.assert_array_equal(stream(*key).random(50), draws)
    many = np.array([stream(0, sample, "scale").random(2) for sample in range(4000)])
    assert many.mean(0) == pytest.approx([0.5, 0.5], abs=0.02)
    assert np.corrcoef(many, rowvar=False)[0, 1] == pytest.approx(0, abs=0.05)
    assert np.corrcoef(many[:-1, 0], many[1:, 0])[0, 1] == pytest.approx(0, abs=0.05)


STREAMS = [(0, 1, "scale"), (1, 0, "scale"), (0, 11, "scale"), (0, 1, "flip"), (1, 1, "scale"), (10, 1, "scale")]


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


def test_only_transforms_are_taken() -> None:
    with pytest.raises(ConfigError, match="dict is no transform of patches"):
        Augment(0, {"noise": {}})  # type: ignore[dict-item]


@pytest.mark.gpu
def test_a_gpu_gives_what_a_cpu_gives_except_for_noise() -> None:
    data, augment = batch(), built(**(ALL | {"noise_probability": 0.0}))
    moved = {key: value.cuda() if isinstance(value, torch.Tensor) else value for key, value in data.items()}
    expected, done = augment(data), augment(moved)
    torch.testing.assert_close(done["image"].cpu(), expected["image"], atol=1e-3, rtol=1e-3)
    assert (done["label"].cpu() == expected["label"]).float().mean() > 0.999
    noisy = only("noise")
    assert torch.equal(noisy(moved)["image"], noisy(moved)["image"])


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
    still = {"rotation_probability": 0, "scale_probability": 0, "flip_axes": (0, 1)}
    assert margin(size, transforms(**still).values()) == [0] * len(size)
