"""Patches that grow: which sizes, and that a sample of any size is still a function of its number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from medseg.data.training.cache import CachedDataset
from medseg.data.training.crops import CropDataset
from medseg.data.training.growth import PatchGrowth
from medseg.data.training.patches import PatchDataset, SampleSequence
from medseg.data.training.slices import SliceDataset
from medseg.data.training.transforms import preprocessing
from tests.data.training.augmenting import batch, only

FULL, SMALL = (12, 12, 8), (6, 8, 4)
MARGIN = (2, 1, 0)


@pytest.fixture
def cases(tmp_path: Path) -> CachedDataset:
    """Two volumes of 20 x 18 x 16 that count their voxels; a target in the middle of one."""
    data = []
    for number in range(2):
        image = np.arange(20 * 18 * 16, dtype=np.float32).reshape(20, 18, 16)
        label = np.zeros(image.shape, np.uint8)
        label[9:11, 8:10, 7:9] = number
        case: dict[str, Any] = {"case": str(number)}
        for key, values in {"image": image, "label": label}.items():
            case[key] = str(tmp_path / f"{key}{number}.nii")
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), case[key])
        data.append(case)
    return CachedDataset(data, preprocessing(normalization="none", slices_first=True), tmp_path / "cache")


def test_sizes_grow_to_the_full_one_in_multiples_of_what_the_network_takes() -> None:
    growth = PatchGrowth([32, 48, 32], 0.5, [8, 8, 8])
    assert growth.sizes == [(16, 24, 16), (16, 24, 16), (24, 32, 24), (24, 40, 24)]
    seen = [growth.size(progress) for progress in np.linspace(0, 1, 101)]
    assert seen[0] == (16, 24, 16)
    assert [seen[n] for n in (24, 26, 37, 38, 49, 50, 100)] == [
        *[(16, 24, 16), (24, 32, 24), (24, 32, 24), (24, 40, 24), (24, 40, 24)],
        *[(32, 48, 32)] * 2,
    ]
    assert seen == sorted(seen)
    assert PatchGrowth([256, 320], 0.8).sizes == [(128, 160), (160, 192), (192, 224), (224, 256)]
    thin = PatchGrowth([128, 128, 20], 0.5)
    assert thin.sizes[0] == (64, 64, 20), "an axis that the network takes as one voxel stays"
    assert PatchGrowth([100, 36], 0.5, [8, 8]).sizes[-1] == (80, 24)


def patches(kind: str, cases: CachedDataset, probability: float = 0.5) -> PatchDataset:
    targets, rest = {"target": (1,)}, {"samples_per_epoch": 8, "seed": 3}
    if kind == "slices":
        return SliceDataset(cases, FULL[:2], targets, probability, **rest, margin=MARGIN[:2], context=3)
    if kind == "crops":
        return CropDataset(cases, FULL, **rest, scale=(0.8, 1.25), category_cap=1.0)
    return PatchDataset(cases, FULL, targets, probability, **rest, margin=MARGIN)


@pytest.mark.parametrize("kind", ["patches", "slices", "crops"])
def test_a_sample_is_a_function_of_its_number_and_its_size(kind: str, cases: CachedDataset) -> None:
    dataset = patches(kind, cases)
    full, small = (size[: len(dataset.patch_size)] for size in (FULL, SMALL))
    for sample in range(12):
        one, other, again = dataset[sample], dataset[sample, full], dataset[sample, small]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
        expected = [size + 2 * extra for size, extra in zip(small, dataset.margin, strict=True)]
        assert list(again["image"].shape[1:]) == list(again["label"].shape[1:]) == expected
        assert (again["case"], again["sample"]) == (one["case"], sample)
        assert torch.equal(again["image"], patches(kind, cases)[sample, small]["image"])


@pytest.mark.parametrize("kind", ["patches", "slices"])
def test_a_small_patch_is_centred_on_a_target_too(kind: str, cases: CachedDataset) -> None:
    dataset = patches(kind, cases, probability=1.0)
    size = SMALL[: len(dataset.patch_size)]
    held = [one for n in range(20) if (one := dataset[n, size])["case"] == "1"]
    assert len(held) == 10
    for one in held:
        middle = tuple(slice(extra, extra + n) for n, extra in zip(size, dataset.margin, strict=True))
        assert one["label"][0][middle].any()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_size_of_an_epoch_follows_progress_in_every_worker(workers: int, cases: CachedDataset) -> None:
    growth = PatchGrowth(FULL, 0.5, [2, 2, 2])
    sequence = SampleSequence(8, 2, growth=growth)
    shared = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = DataLoader(patches("patches", cases), batch_size=2, sampler=sequence, **shared)
    for epoch, progress in enumerate((0.0, 0.3, 0.7)):
        sequence.set_epoch(epoch)
        sequence.set_progress(progress)
        batches = list(loader)
        expected = [size + 2 * extra for size, extra in zip(growth.size(progress), MARGIN, strict=True)]
        assert [list(one["image"].shape[2:]) for one in batches] == [expected] * 4
        assert torch.cat([one["sample"] for one in batches]).tolist() == list(range(8 * epoch, 8 * epoch + 8))
    assert growth.size(0.0) != growth.size(0.3) != growth.size(0.7) == FULL


def test_a_small_patch_is_turned_and_bent_as_the_middle_of_a_full_one() -> None:
    data = batch((40, 44, 36))
    options = {"rotation_degrees": 20, "bend_voxels": 1.5, "patch_size": (24, 28, 20)}
    augment = only("rotation", "scale", "bend", margin=(8, 8, 8), **options)
    whole = augment(data)
    assert whole["image"].shape[2:] == (24, 28, 20)
    cut = (slice(None), slice(None), slice(6, -6), slice(7, -7), slice(5, -5))
    small = augment(data | {key: data[key][cut] for key in ("image", "label")})
    assert small["image"].shape[2:] == (12, 14, 10)
    middle = whole["image"][cut]
    torch.testing.assert_close(small["image"], middle, atol=1e-4, rtol=1e-4)
    assert (small["label"] == whole["label"][cut]).float().mean() > 0.999
    assert not torch.equal(middle, data["image"][:, :, 14:-14, 15:-15, 13:-13])
