"""All transforms together: who draws what, and what comes out however a batch is computed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from medseg.core.errors import ConfigError
from medseg.data.training.augment import TRANSFORMS
from medseg.data.training.augment.base import Spatial, Warp
from medseg.data.training.augment.pipeline import Augment
from medseg.data.training.streams import stream
from tests.data.training.augmenting import ALL, NAMES, at_once, batch, built, only, transforms, warp_of


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
