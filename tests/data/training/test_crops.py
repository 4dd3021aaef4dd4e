"""Crops at random scales: what they show, where they end, and that sample n is always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medseg.data.training import crops as module
from medseg.data.training.cache import CachedDataset
from medseg.data.training.crops import CropDataset
from medseg.data.training.photometric import YIQ, Photometric
from medseg.data.training.streams import stream


class Given:
    """A preprocessing that returns what the test drew."""

    def __init__(self, image: np.ndarray, label: np.ndarray) -> None:
        self.image, self.label = image, label

    def __call__(self, case: dict) -> dict:
        affine = torch.eye(4, dtype=torch.float64)
        image, label = (MetaTensor(torch.from_numpy(x.copy()), affine=affine) for x in (self.image, self.label))
        return case | {"image": image, "label": label, "native_affine": affine, "native_shape": self.image.shape[1:]}


def dataset(tmp_path: Path, image: np.ndarray, label: np.ndarray, size: tuple[int, ...], **options) -> CropDataset:
    file = tmp_path / "case.bin"
    file.write_bytes(b"")
    cases = CachedDataset([{"case": "a", "image": str(file)}], Given(image, label), tmp_path / "cache")
    return CropDataset(cases, size, 10, 0, **({"category_cap": 0.75} | options))


def gradient(height: int, width: int) -> np.ndarray:
    """Rows in the first channel, columns in the second."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows]).astype(np.uint8)


def test_a_crop_of_scale_1_is_a_piece_of_the_picture_and_its_label(tmp_path: Path) -> None:
    image = gradient(40, 60)
    crops = dataset(tmp_path, image, image[:1] // 8, (16, 24), scale=(1, 1), category_cap=1.0)
    starts = set()
    for sample in range(20):
        crop = crops[sample]
        first_row, first_column = int(crop["image"][0, 0, 0]), int(crop["image"][1, 0, 0])
        starts.add((first_row, first_column))
        piece = image[:, first_row : first_row + 16, first_column : first_column + 24]
        np.testing.assert_array_equal(crop["image"], piece)
        np.testing.assert_array_equal(crop["label"], piece[:1] // 8)
        assert crop["image"].dtype == torch.uint8
    assert len(starts) > 10


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_scaled_crops_keep_image_and_label_together(tmp_path: Path, factor: float) -> None:
    image = gradient(80, 120)
    crops = dataset(tmp_path, image, image[:1], (16, 24), scale=(factor, factor), category_cap=1.0)
    crop = crops[3]
    rows = crop["image"][0].float()
    assert (rows[-1] - rows[0]).mean().item() == pytest.approx(15 / factor, abs=1.01)
    assert (rows - crop["label"][0].float()).abs().max() <= 1  # linear against nearest


def test_a_mirrored_crop_runs_the_other_way(tmp_path: Path) -> None:
    image = gradient(40, 60)
    crops = dataset(tmp_path, image, image[1:2], (16, 24), scale=(1, 1), category_cap=1.0, flip_axes=(1,))
    turned = 0
    for sample in range(20):
        crop = crops[sample]
        steps = set(np.diff(crop["image"][1, 0].numpy().astype(int)).tolist())
        assert steps in ({1}, {-1})
        np.testing.assert_array_equal(crop["label"][0], crop["image"][1])
        assert set(np.diff(crop["image"][0, :, 0].numpy().astype(int)).tolist()) == {1}, "rows are never mirrored"
        turned += steps == {-1}
    assert 4 < turned < 16


def test_outside_the_picture_is_the_mean_colour_and_ignored(tmp_path: Path) -> None:
    image = np.full((3, 20, 20), 9, np.uint8)
    label = np.ones((1, 20, 20), np.uint8)
    options = {"scale": (0.5, 0.5), "fill": [1, 2, 3], "outside": 255, "ignored": (255,), "category_cap": 1.0}
    crop = dataset(tmp_path, image, label, (16, 8), **options)[0]  # shows 32 x 16 pixels of 20 x 20
    inside = crop["label"][0] == 1
    assert inside.sum() == 10 * 8
    assert (crop["label"][0][~inside] == 255).all()
    colours = crop["image"].movedim(0, -1)
    edge = torch.nn.functional.max_pool2d(inside[None].float(), 3, 1, 1)[0].bool() & ~inside
    assert (colours[~inside & ~edge] == torch.tensor([1, 2, 3], dtype=torch.uint8)).all()


def test_no_class_fills_a_crop_where_another_can_be_had(tmp_path: Path) -> None:
    label = np.zeros((1, 32, 400), np.uint8)
    label[:, :, 40:60] = 1
    image = np.zeros((3, 32, 400), np.uint8)
    shares = {}
    for cap in (0.75, 1.0):
        crops = dataset(tmp_path, image, label, (32, 32), scale=(1, 1), category_cap=cap)
        shares[cap] = sum(bool((crops[sample]["label"] == 1).any()) for sample in range(60)) / 60
    assert shares[1.0] < 0.4
    assert shares[0.75] > shares[1.0] + 0.2


def test_sample_n_is_the_same_whoever_asks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image, label = random.integers(0, 256, (3, 40, 50), np.uint8), random.integers(0, 3, (1, 40, 50), np.uint8)
    options = {"scale": (0.5, 2.0), "flip_axes": (0, 1)}
    one, other = (
        dataset(tmp_path, image, label, (16, 16), **options),
        dataset(tmp_path, image, label, (16, 16), **options),
    )
    for _ in range(5):
        one[7]
    for key in ("image", "label"):
        assert torch.equal(one[12][key], other[12][key])
        assert not torch.equal(one[12][key], one[13][key])


@pytest.mark.parametrize("name", ["crop.scale", "crop.flip", "crop.position"])
def test_scale_mirroring_and_place_have_a_stream_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Other draws of one of them leave the two others as they are."""
    image = gradient(40, 60)
    crops = dataset(tmp_path, image, image[:1], (16, 24), scale=(1, 1.5), category_cap=1.0, flip_axes=(0, 1))

    def seen(sample: int) -> dict[str, object]:
        image = crops[sample]["image"].float()
        rows, columns = image[0, :, 0], image[1, 0]
        return {
            "crop.scale": (rows.max() - rows.min(), columns.max() - columns.min()),
            "crop.flip": (rows[0] > rows[-1], columns[0] > columns[-1]),
            "crop.position": (rows.min(), columns.min()),
        }

    before = [seen(sample) for sample in range(30)]
    monkeypatch.setattr(
        module, "stream", lambda seed, sample, one: stream(seed + 1 if one == name else seed, sample, one)
    )
    after = [seen(sample) for sample in range(30)]
    same = {one: [x[one] == y[one] for x, y in zip(before, after, strict=True)] for one in before[0]}
    assert not all(same[name])
    kept = {"crop.scale", "crop.flip", "crop.position"} - {name}
    if name == "crop.scale":  # another size: as much room as there is then, so other places from the same draws
        kept -= {"crop.position"}
    assert all(all(same[one]) for one in kept)


def test_volumes_are_cropped_too(tmp_path: Path) -> None:
    label = np.random.default_rng(0).integers(0, 2, (1, 12, 14, 10), np.uint8)
    image = label.astype(np.float32) * 3
    crop = dataset(tmp_path, image, label, (8, 8, 8), scale=(0.8, 1.6), flip_axes=(0, 2))[1]
    assert crop["image"].shape == crop["label"].shape == (1, 8, 8, 8)
    assert crop["image"].dtype == torch.float32
    inner = np.corrcoef(crop["image"].numpy().ravel(), crop["label"].numpy().ravel())[0, 1]
    assert inner > 0.5


# --- colours -------------------------------------------------------------------------------------------------------


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(60, 200, (4, 3, 6, 7), generator=generator, dtype=torch.uint8)
    return {"image": image, "sample": torch.arange(4) + 10, "label": torch.zeros(4, 1, 6, 7, dtype=torch.uint8)}


def test_colours_derive_from_seed_and_sample_alone() -> None:
    whole = Photometric(3)(batch())["image"]
    assert whole.dtype == torch.float32
    assert whole.min() >= 0
    assert whole.max() <= 255
    alone = {key: value[2:3] for key, value in batch().items()}
    torch.testing.assert_close(Photometric(3)(alone)["image"], whole[2:3])
    assert not torch.equal(Photometric(4)(batch())["image"], whole)


def test_nothing_changes_at_probability_0_and_each_change_does_its_own() -> None:
    given = batch()
    image = given["image"].float()
    same = Photometric(0, probability=0.0)(given)["image"]
    torch.testing.assert_close(same, image)
    only = {"brightness": 0.0, "contrast": (1, 1), "saturation": (1, 1), "hue_degrees": 0.0, "probability": 1.0}
    shifted = Photometric(0, **(only | {"brightness": 32.0}))(given)["image"] - image
    assert (shifted.flatten(1).std(1) < 1e-3).all()
    assert shifted.abs().max() > 5
    grey = Photometric(0, **(only | {"saturation": (1e-6, 1e-6)}))(given)["image"]
    luma = torch.einsum("c,bchw->bhw", torch.tensor(YIQ[0], dtype=torch.float32), image)
    torch.testing.assert_close(grey, luma[:, None].expand_as(grey), atol=0.05, rtol=0)
    turned = Photometric(0, **(only | {"hue_degrees": 30.0}))(given)["image"]
    assert (turned - image).abs().max() > 5
    unclipped = ((turned > 0) & (turned < 255)).all(1)
    kept = torch.einsum("c,bchw->bhw", torch.tensor(YIQ[0], dtype=torch.float32), turned)
    torch.testing.assert_close(kept[unclipped], luma[unclipped], atol=0.05, rtol=0)


def test_a_change_of_colour_is_drawn_whatever_the_others_do() -> None:
    """A hue that is turned is turned as far whether brightness, contrast and saturation happen too or not."""
    given = batch() | {"image": batch()["image"][:1].expand(64, -1, -1, -1), "sample": torch.arange(64)}
    neutral = {"brightness": 0.0, "contrast": (1, 1), "saturation": (1, 1)}
    always, half = (Photometric(0, **neutral, probability=share)(given)["image"] for share in (1.0, 0.5))
    same = (half - given["image"]).abs().flatten(1).amax(1) < 1e-3
    assert 16 < same.sum() < 48
    torch.testing.assert_close(half[~same], always[~same])


def test_colours_are_of_three_channels() -> None:
    with pytest.raises(ValueError, match="4 channels"):
        Photometric(0)({"image": torch.zeros(1, 4, 5, 5), "sample": torch.tensor([0])})
