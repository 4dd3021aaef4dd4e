from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from medseg.data.training.cache import CachedDataset
from medseg.data.training.patches import PatchDataset, SampleSequence
from medseg.data.training.transforms import preprocessing

TARGETS = {"whole": (1, 2), "core": (2,), "elsewhere": (9,)}


@pytest.fixture
def cases(tmp_path: Path) -> CachedDataset:
    """Images that count their voxels; labels 1 in a large block and 2 in one single voxel."""
    data = []
    for number, shape in enumerate([(20, 18, 16), (20, 18, 16), (9, 18, 7)]):
        image = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
        label = np.zeros(shape, np.uint8)
        if number != 1:
            label[1:7, 1:9, 1:5] = 1
            label[3, 14, 5] = 2
        case: dict[str, Any] = {"case": str(number)}
        for key, values in {"image": image, "label": label}.items():
            case[key] = str(tmp_path / f"{key}{number}.nii")
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), case[key])
        data.append(case)
    return CachedDataset(data, preprocessing(normalization="none"), tmp_path / "cache")


def patches(cases: CachedDataset, probability: float = 0.5, seed: int = 0, epoch: int = 12) -> PatchDataset:
    return PatchDataset(cases, (8, 8, 8), TARGETS, probability, epoch, seed)


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in ("image", "label", "sample"))


def test_a_sample_is_a_function_of_seed_and_number(cases: CachedDataset) -> None:
    forwards = [patches(cases)[number] for number in range(40)]
    again = patches(CachedDataset(cases.data, cases.transform, cases.folder), epoch=3)
    for number in reversed(range(40)):
        assert equal(again[number], forwards[number])
        assert again[number]["case"] == forwards[number]["case"]
    assert sum(equal(patches(cases, seed=1)[n], forwards[n]) for n in range(40)) < 20


def test_workers_change_nothing(cases: CachedDataset) -> None:
    found = []
    for workers in (0, 2):
        sequence = SampleSequence(12, 3)
        loader = DataLoader(patches(cases), batch_size=3, sampler=sequence, num_workers=workers)
        batches = []
        for epoch in range(2):
            sequence.set_epoch(epoch)
            batches += list(loader)
        found.append(batches)
    assert len(found[0]) == len(found[1]) == 8
    assert all(equal(one, other) for one, other in zip(*found, strict=True))
    assert torch.cat([batch["sample"] for batch in found[0]]).tolist() == list(range(24))


def test_every_pass_sees_every_case_in_a_new_order(cases: CachedDataset) -> None:
    dataset = patches(cases)
    passes = [tuple(dataset[3 * number + k]["case"] for k in range(3)) for number in range(20)]
    assert all(sorted(one) == ["0", "1", "2"] for one in passes)
    assert len(set(passes)) > 3


def test_image_and_label_are_cut_alike_and_padding_is_zero(cases: CachedDataset) -> None:
    dataset = patches(cases)
    for number in range(60):
        sample = dataset[number]
        assert sample["image"].shape == (1, 8, 8, 8)
        assert (sample["image"].dtype, sample["label"].dtype) == (torch.float32, torch.uint8)
        entry = cases.entry(int(sample["case"]))
        inside = sample["image"] > 0  # each voxel holds its own number, from 1
        assert entry.label is not None
        where = sample["image"][inside].long() - 1
        assert torch.equal(entry.label.flatten()[where], sample["label"][inside])
        assert (sample["label"][~inside] == 0).all()
        assert int(inside.sum()) == (8 * 8 * 7 if sample["case"] == "2" else 8**3)
        if sample["case"] == "2":
            assert not inside[..., 7].any(), "one voxel too few: padded by 0 in front, by 1 behind"
        sample["image"].zero_()  # a copy: the cache keeps what it has
        assert (entry.image > 0).all()


def test_a_margin_is_what_lies_around_the_patch(cases: CachedDataset) -> None:
    """Voxels of the volume where there are any; outside, its border (or the padding of a small volume) repeated."""
    dataset = PatchDataset(cases, (8, 8, 8), TARGETS, 0.5, 12, 0, margin=(2, 0, 3))
    for number in range(30):
        sample, patch = dataset[number], patches(cases)[number]
        entry = cases.entry(int(sample["case"]))
        assert sample["image"].shape == sample["label"].shape == (1, 12, 8, 14)
        for key, volume in (("image", entry.image), ("label", entry.label)):
            middle = sample[key][:, 2:-2, :, 3:-3]
            assert torch.equal(middle, patch[key])
            assert volume is not None
            shape = volume.shape[1:]
            before = [(max(0, 8 - n)) // 2 for n in shape]
            padded = np.pad(volume[0].numpy(), [(b, max(0, 8 - n) - b) for b, n in zip(before, shape, strict=True)])
            around = np.pad(padded, [(2, 2), (0, 0), (3, 3)], mode="edge")
            windows = np.lib.stride_tricks.sliding_window_view(around, sample[key].shape[1:])
            assert (windows == sample[key][0].numpy()).all(axis=(-3, -2, -1)).any()


def test_targets_are_oversampled_alike(cases: CachedDataset) -> None:
    always = [patches(cases, 1.0)[number] for number in range(300)]
    marked = [sample for sample in always if sample["case"] != "1"]
    assert all((sample["label"] > 0).any() for sample in marked)
    # "core" is one voxel of 193, yet it is in the middle of half of the patches that are centred on a target
    centred = sum(bool((sample["label"] == 2).any()) for sample in marked) / len(marked)
    assert 0.4 < centred < 0.65
    never = [patches(cases, 0.0)[number] for number in range(300)]
    assert sum(bool((sample["label"] == 2).any()) for sample in never if sample["case"] != "1") < len(marked) * 0.4
    assert Counter(sample["case"] for sample in always) == {"0": 100, "1": 100, "2": 100}


def test_random_patches_reach_every_voxel(cases: CachedDataset) -> None:
    seen = torch.zeros(20 * 18 * 16 + 1, dtype=torch.bool)
    dataset = patches(cases, 0.0)
    for number in range(1500):
        sample = dataset[number]
        if sample["case"] == "0":
            seen[sample["image"].long().flatten()] = True
    assert seen[1:].float().mean() > 0.99


def test_two_dimensions(tmp_path: Path) -> None:
    for key, values in {"image": np.ones((12, 5), np.float32), "label": np.eye(12, 5, dtype=np.uint8)}.items():
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{key}.nii")
    data = [{"case": "a", "image": str(tmp_path / "image.nii"), "label": str(tmp_path / "label.nii")}]
    cached = CachedDataset(data, preprocessing(spatial_dims=2, normalization="none"), tmp_path / "cache")
    sample = PatchDataset(cached, (8, 8), {"diagonal": (1,)}, 1.0, 4, 0)[0]
    assert sample["image"].shape == (1, 8, 8)
    assert sample["image"].sum() == 40


def test_ranks_share_every_batch() -> None:
    ranks = [SampleSequence(24, 2, rank, 3) for rank in range(3)]
    for sequence in ranks:
        sequence.set_epoch(2)
    parts = [list(sequence) for sequence in ranks]
    assert [len(sequence) for sequence in ranks] == [len(part) for part in parts] == [8, 8, 8]
    assert sorted(number for part in parts for number in part) == list(range(48, 72))
    whole = list(SampleSequence(24, 6))
    first = [number for part in parts for number in part[:2]]
    assert [number - 48 for number in first] == whole[:6], "a step sees the same samples on one rank and on three"
    with pytest.raises(ValueError, match="multiple"):
        SampleSequence(25, 2, 0, 3)
