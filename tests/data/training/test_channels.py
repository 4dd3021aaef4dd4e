"""Channel dropout: which channels go, what stays 0, and what preprocessing makes of a channel that is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.core.errors import DataError
from medseg.data.cases.case import Case
from medseg.data.training.apply import apply
from medseg.data.training.augment.noise import Noise
from medseg.data.training.augment.pipeline import Augment
from medseg.data.training.cache import CachedDataset
from medseg.data.training.channels import ChannelDropout, chosen_channels
from medseg.data.training.transforms import preprocessing


def batch(samples: int = 2000, channels: int = 4) -> dict[str, Any]:
    return {"image": torch.ones(samples, channels, 2, 2), "label": None, "sample": torch.arange(samples)}


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.8])
def test_each_channel_goes_as_often_as_it_is_asked_and_never_all(probability: float) -> None:
    given = batch()
    result = ChannelDropout(probability, seed=3)(given)
    kept = result["image"].flatten(2).any(2)
    assert torch.equal(kept, result["image"].flatten(2).all(2))  # a channel goes as a whole
    assert kept.any(1).all()
    saved = probability**4 / 4  # by never taking all of them
    assert ((~kept).float().mean(0) - (probability - saved)).abs().max() < 0.04
    assert given["image"].all()  # the batch that was given is left alone
    if probability == 0.5:
        assert len({tuple(row) for row in kept.tolist()}) == 15  # every subset


def test_a_sample_s_channels_depend_on_its_number_and_the_seed_alone() -> None:
    dropout, whole = ChannelDropout(0.5, seed=1), batch(16)
    expected = dropout(whole)["image"]
    for number in (15, 0, 7):
        alone = {"image": whole["image"][:1], "label": None, "sample": torch.tensor([number])}
        assert torch.equal(dropout(alone)["image"][0], expected[number])
    assert not torch.equal(ChannelDropout(0.5, seed=2)(whole)["image"], expected)


def test_a_channel_goes_with_its_neighbouring_slices() -> None:
    single, around = batch(64, 3), batch(64, 9)
    around["image"][0, 3:5] = 0  # the outermost slices of a channel that is there
    kept = ChannelDropout(0.5, seed=1)(single)["image"].flatten(2).any(2)
    found = ChannelDropout(0.5, seed=1, context=3)(around)["image"].flatten(2).any(2).unflatten(1, (3, 3))
    assert torch.equal(found[1:], kept[1:, :, None].expand(-1, -1, 3))
    assert found[0].any(1).tolist() == kept[0].tolist()


def test_of_the_channels_that_are_there_one_stays() -> None:
    there = torch.tensor([[True, False, False], [False, True, True], [True, True, True], [False, False, False]])
    draws = torch.tensor([[0.1, 0.9, 0.95], [0.99, 0.1, 0.2], [0.6, 0.5, 0.4], [0.9, 0.9, 0.9]])
    expected = [[True, False, False], [False, False, True], [True, True, False], [False, False, False]]
    assert chosen_channels(there, draws, 0.5).tolist() == expected


def test_what_is_missing_stays_exactly_missing_after_noise() -> None:
    given = batch(8, 3) | {"label": torch.zeros(8, 1, 2, 2, dtype=torch.uint8)}
    given["image"][:, 1] = 0
    noisy = Augment(seed=0, transforms={"noise": Noise(noise_probability=1.0)})
    assert noisy(given)["image"][:, 1].all()
    result = ChannelDropout(1e-9, seed=0, augment=noisy)(given)["image"]
    assert not result[:, 1].any()
    assert torch.equal(result[0, 0], noisy(given)["image"][0, 0])


@pytest.mark.parametrize("mode", ["zscore", "zscore_nonzero", "none", "ct", ["ct", "zscore"]])
def test_preprocessing_gives_zeros_for_a_missing_channel(mode: str | list[str], tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(50, 9, (6, 7, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 1, 1, 1])), tmp_path / "a.nii.gz")
    options: dict[str, Any] = {"normalization": mode, "spacing_mm": [1, 1, 1], "channels": 2, "ct_mean_std": [40, 20]}
    options["crop_to_foreground"] = True
    entry = Case("a", (None, str(tmp_path / "a.nii.gz"))).entry()
    case = apply(preprocessing(**options, missing=True), entry)
    assert case["missing"] == (0,)
    assert not case["image"][0].any()
    both = apply(preprocessing(**options), Case("a", (str(tmp_path / "a.nii.gz"),) * 2).entry())
    assert torch.equal(case["image"][1], both["image"][1])
    assert "missing" not in both
    with pytest.raises(DataError, match=r"lacks 1 of its 2 channels[\s\S]*channel_dropout"):
        apply(preprocessing(**options), entry)


def test_the_cache_tells_apart_which_channel_is_missing(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    file = str(tmp_path / "a.nii.gz")
    cases = [Case("a", (None, file)), Case("a", (file, None))]
    dataset = CachedDataset(cases, preprocessing(normalization="none", missing=True), tmp_path / "cache")
    dataset.fill()
    found = [dataset.entry(number).image.flatten(1).any(1).tolist() for number in (0, 1)]
    assert found == [[False, True], [True, False]]
