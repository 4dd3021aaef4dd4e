from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from medseg.core.errors import DataError
from medseg.data.training.augment.contrast import Contrast
from medseg.data.training.augment.gamma import Gamma
from medseg.data.training.augment.noise import Noise
from medseg.data.training.augment.pipeline import Augment
from medseg.data.training.cache import CachedDataset
from medseg.data.training.slices import SliceDataset
from medseg.data.training.transforms import preprocessing

TARGETS = {"whole": (1, 2), "core": (2,)}
SHAPE = (12, 10, 9)


@pytest.fixture
def cases(tmp_path: Path) -> CachedDataset:
    """Two volumes of two channels that count their voxels, slices along the second axis of the file.

    One has a target in four slices (of one voxel in the last of them), the other none.
    """
    data = []
    for number in range(2):
        image = np.arange(2 * np.prod(SHAPE), dtype=np.float32).reshape(*SHAPE, 2)
        label = np.zeros(SHAPE, np.uint8)
        if number == 0:
            label[2:9, 3:6, 1:8] = 1
            label[4, 7, 5] = 2
        case: dict[str, Any] = {"case": str(number)}
        for key, values in {"image": image, "label": label}.items():
            case[key] = str(tmp_path / f"{key}{number}.nii")
            nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 5.0, 1.0, 1.0])), case[key])
        data.append(case)
    prepare = preprocessing(orientation="RSA", normalization="none", slices_first=True)
    return CachedDataset(data, prepare, tmp_path / "cache")


def slices(cases: CachedDataset, probability: float = 1.0, context: int = 3, **options: Any) -> SliceDataset:
    return SliceDataset(cases, options.pop("patch", (12, 9)), TARGETS, probability, 8, 0, context=context, **options)


def test_the_last_axis_of_the_orientation_becomes_the_first_of_the_volume(cases: CachedDataset) -> None:
    entry = cases.entry(0)
    source = np.asarray(nibabel.load(cases.data[0].first).dataobj)
    assert entry.image.shape == (2, 10, 12, 9)
    assert np.array_equal(entry.image[1, 4], source[:, 4, :, 1])
    assert np.allclose(entry.affine @ torch.tensor([1.0, 0, 0, 1]).double(), [0, 5, 0, 1])  # a step to the next slice


@pytest.mark.parametrize("context", [1, 3, 5])
def test_a_sample_is_a_slice_with_its_neighbours_and_its_own_label(cases: CachedDataset, context: int) -> None:
    dataset = slices(cases, 0.5, context)
    source = np.asarray(nibabel.load(cases.data[0].first).dataobj)
    seen = set()
    for sample in range(60):
        found = dataset[sample]
        assert found["image"].shape == (2 * context, 12, 9)
        image = found["image"].unflatten(0, (2, context))
        (number,) = (n for n in range(10) if np.array_equal(image[0, context // 2], source[:, n, :, 0]))
        seen.add(number)
        for channel in range(2):
            for place in range(context):
                neighbour = min(max(number + place - context // 2, 0), 9)  # the outermost is repeated
                assert np.array_equal(image[channel, place], source[:, neighbour, :, channel])
        assert torch.equal(found["label"][0], cases.entry(int(found["case"])).label[0, number])
    assert {0, 9} < seen


def test_slices_with_a_target_come_alike_however_much_of_it_they_hold(cases: CachedDataset) -> None:
    dataset = slices(cases)
    counts: Counter[int] = Counter()
    for sample in range(800):
        found = dataset[sample]
        if found["case"] == "0":
            counts[int(found["label"].sum())] += 1
    whole = {49: 3, 2: 1}  # voxels of the target in a slice: of how many of the four slices of "whole"
    share = {size: 0.5 * number / 4 for size, number in whole.items()}
    share[2] += 0.5  # "core" is in that slice alone
    for size, expected in share.items():
        assert counts[size] / counts.total() == pytest.approx(expected, abs=0.07)


def test_a_patch_lies_around_the_target(cases: CachedDataset) -> None:
    dataset = slices(cases, patch=(4, 4))
    for sample in range(40):
        found = dataset[sample]
        assert found["case"] == "1" or found["label"].any()


def test_a_sample_is_a_function_of_its_number(cases: CachedDataset) -> None:
    forwards = [slices(cases, 0.5)[number] for number in range(20)]
    again = slices(CachedDataset(cases.data, cases.transform, cases.folder), 0.5)
    for number in reversed(range(20)):
        assert torch.equal(again[number]["image"], forwards[number]["image"])


def test_a_picture_is_no_volume(tmp_path: Path) -> None:
    for key in ("image", "label"):
        nibabel.save(nibabel.Nifti1Image(np.ones((8, 8), np.uint8), np.eye(4)), tmp_path / f"{key}.nii")
    case = {"image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")}
    pictures = CachedDataset([case], preprocessing(orientation="RA", spatial_dims=2), tmp_path / "cache")
    with pytest.raises(DataError, match="expected a volume"):
        slices(pictures)[0]


@pytest.mark.parametrize("change", [Contrast(contrast_probability=1.0), Gamma(gamma_probability=1.0)])
def test_neighbours_are_changed_as_one_channel(change: Any) -> None:
    """As if the slices were one more axis of the channel, with one factor for all of them."""
    torch.manual_seed(0)
    image = torch.randn(3, 2 * 5, 6, 7)
    batch = {"image": image, "label": torch.zeros(3, 1, 6, 7, dtype=torch.uint8), "sample": torch.arange(3)}
    changed = Augment(7, {"change": change}, context=5)(batch)["image"]
    volume = {**batch, "image": image.unflatten(1, (2, 5)), "label": torch.zeros(3, 1, 5, 6, 7, dtype=torch.uint8)}
    expected = Augment(7, {"change": change})(volume)["image"]
    torch.testing.assert_close(changed, expected.flatten(1, 2))


def test_noise_is_another_in_each_slice() -> None:
    batch = {"image": torch.zeros(1, 3, 6, 7), "label": torch.zeros(1, 1, 6, 7), "sample": torch.arange(1)}
    changed = Augment(0, {"noise": Noise(noise_probability=1.0)}, context=3)(batch)["image"][0]
    assert not torch.equal(changed[0], changed[1])
