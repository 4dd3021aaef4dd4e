from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from PIL import Image as Pillow

from medseg.core.errors import DataError
from medseg.core.labels import Labels
from medseg.data.training.apply import apply
from medseg.data.training.transforms import background_value, preprocessing, preprocessing_steps
from medseg.inference.postprocess import to_native

SHAPE = (9, 11, 8)


def turn(degrees: float, first: int, second: int) -> np.ndarray:
    angle, matrix = np.deg2rad(degrees), np.eye(4)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


SHIFT = np.array([[1, 0, 0, -31.7], [0, 1, 0, 12.25], [0, 0, 1, 110.1], [0, 0, 0, 1.0]])
PERMUTED = np.array([[0, 0, -1.5, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
AFFINES = {
    "axis-aligned": SHIFT,
    "flipped": SHIFT @ np.diag([-1.0, -1.0, 2.0, 1.0]),
    "permuted": SHIFT @ PERMUTED,
    "anisotropic": SHIFT @ np.diag([0.6, 0.6, 5.0, 1.0]),
    "oblique": SHIFT @ turn(23, 0, 1) @ turn(-11, 1, 2) @ np.diag([0.9, 1.1, 2.5, 1.0]),
    "oblique and permuted": SHIFT @ turn(17, 0, 2) @ turn(31, 0, 1) @ PERMUTED,
}


def save(path: Path, values: np.ndarray, affine: np.ndarray) -> str:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return str(path)


def world(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """`(*shape, 3)`: the position of every voxel in mm."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.fixture
def case(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """An image whose three channels are the voxel's own x, y and z, and a label of noise."""
    affine = AFFINES[request.param]
    random = np.random.default_rng(0)
    label = random.integers(0, 4, SHAPE).astype(np.float32)  # as some files in the wild: float32 that holds integers
    image = world(SHAPE, affine).astype(np.float32)
    outside = np.ones(SHAPE, bool)
    outside[2:-1, 1:-3, 1:-1] = False
    padded = image.copy()
    padded[outside] = -1000
    return {
        "case": "one",
        "image": save(tmp_path / "image.nii.gz", image, affine),
        "padded": save(tmp_path / "padded.nii.gz", padded, affine),
        "label": save(tmp_path / "label.nii.gz", label, affine),
        "values": torch.from_numpy(label),
    }


every_affine = pytest.mark.parametrize("case", AFFINES, indirect=True)


@every_affine
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR"])
@pytest.mark.parametrize("crop", [False, True])
def test_a_label_comes_back_bit_for_bit(case: dict[str, Any], orientation: str, crop: bool) -> None:
    if crop:
        case["image"] = case["padded"]
    done = apply(preprocessing(orientation=orientation, crop_to_foreground=crop), case)
    assert done["label"].dtype == torch.uint8
    assert "".join(nibabel.aff2axcodes(done["image"].affine.numpy())) == orientation
    logits = torch.nn.functional.one_hot(done["label"][0].as_tensor().long(), 4).movedim(-1, 0).float()
    labels = Labels({"background": 0, "a": 1, "b": 2, "c": 3})
    native = to_native(logits, done["image"].affine, done["native_affine"], done["native_shape"], labels)
    expected = case["values"].clone()
    if crop:
        inside = torch.zeros(SHAPE, dtype=torch.bool)
        inside[2:-1, 1:-3, 1:-1] = True
        assert done["label"].numel() == inside.sum()
        expected[~inside] = 0
    assert native.shape == SHAPE
    assert torch.equal(native.long(), expected.long())


@every_affine
@pytest.mark.parametrize("spacing", [None, (1.0, 1.3, 0.7), (2.0, 2.0, 2.0)])
def test_the_affine_tells_the_truth(case: dict[str, Any], spacing: tuple[float, ...] | None) -> None:
    done = apply(preprocessing(spacing_mm=spacing, normalization="none"), case)
    image, affine = done["image"], done["image"].affine.numpy()
    assert isinstance(image, MetaTensor)
    if spacing is not None:
        np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), spacing, rtol=1e-6)
    codes = nibabel.aff2axcodes(affine)
    assert codes == ("R", "A", "S")
    # a linear image is reproduced by linear interpolation: each voxel holds its own position, up to the border
    expected = world(tuple(image.shape[1:]), affine)
    index = (expected - done["native_affine"].numpy()[:3, 3]) @ np.linalg.inv(done["native_affine"].numpy()[:3, :3]).T
    inside = ((index >= 0) & (index <= np.array(SHAPE) - 1)).all(-1)
    assert inside.mean() > 0.4
    np.testing.assert_allclose(image.numpy()[:, inside], expected[inside].T, atol=2e-3)
    np.testing.assert_array_equal(done["label"].affine.numpy(), affine)
    nearest = np.rint(index[inside]).astype(int)
    unambiguous = (np.abs(index[inside] - nearest) < 0.49).all(-1)
    np.testing.assert_array_equal(
        done["label"].numpy()[0][inside][unambiguous], case["values"].numpy()[tuple(nearest[unambiguous].T)]
    )


@pytest.mark.parametrize("case", ["oblique"], indirect=True)
def test_a_bundle_can_name_the_steps_and_needs_no_label(case: dict[str, Any]) -> None:
    options: dict[str, Any] = {
        "keys": ("image",),
        "orientation": "RAS",
        "spacing_mm": (2.0, 2.0, 2.0),
        "crop_to_foreground": True,
        "normalization": "ct",
        "window_hu": (-100.0, 300.0),
        "spatial_dims": 3,
    }
    steps = [
        {"_target_": f"{step.__module__}.{step.__qualname__}", **arguments}
        for step, arguments in preprocessing_steps(**options)
    ]
    parser = ConfigParser({"preprocessing": {"_target_": "Compose", "transforms": steps}})
    compose = parser.get_parsed_content("preprocessing")
    done = compose({"image": case["image"]})  # as MONAI Label calls it
    assert set(done) >= {"image", "case", "native_affine", "native_shape"}
    assert "label" not in done
    assert done["case"] == "image"
    assert done["image"].dtype == torch.float32
    assert torch.equal(done["image"].as_tensor(), apply(preprocessing(**options), case)["image"].as_tensor())


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_normalisation_forgets_the_scanners_units(tmp_path: Path, scale: float) -> None:
    random = np.random.default_rng(0)
    values = np.full((*SHAPE, 2), -7 * scale, np.float32)  # as BraTS: the background is a negative constant
    values[1:-1, 2:-2, 1:-1] = random.normal([50, 90], [5, 20], (7, 7, 6, 2)) * scale
    path = save(tmp_path / "a.nii.gz", values, np.eye(4))
    inside = (slice(None), slice(1, -1), slice(2, -2), slice(1, -1))

    image = apply(preprocessing(normalization="zscore"), {"image": path})["image"].numpy()
    np.testing.assert_allclose(image.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(image.std((1, 2, 3)), 1, rtol=1e-5)

    image = apply(preprocessing(normalization="zscore_nonzero"), {"image": path})["image"].numpy()
    np.testing.assert_allclose(image[inside].mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(image[inside].std((1, 2, 3)), 1, rtol=1e-5)
    outside = np.ones(image.shape, bool)
    outside[inside] = False
    assert (image[outside] == 0).all()
    cropped = apply(preprocessing(normalization="zscore_nonzero", crop_to_foreground=True), {"image": path})["image"]
    np.testing.assert_allclose(cropped.numpy(), image[inside], atol=1e-5)


def test_normalisation_of_ct_and_of_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1000, 1000, SHAPE).astype(np.float32)
    path = save(tmp_path / "a.nii.gz", values, np.eye(4))
    clipped = np.clip(values, -160, 240).astype(np.float64)
    image = apply(preprocessing(normalization="ct"), {"image": path})["image"].numpy()
    np.testing.assert_allclose(image[0], (clipped - clipped.mean()) / clipped.std(), atol=1e-5)
    np.testing.assert_array_equal(apply(preprocessing(normalization="none"), {"image": path})["image"][0], values)
    flat = save(tmp_path / "flat.nii.gz", np.full(SHAPE, 3.0, np.float32), np.eye(4))
    for mode in ("zscore", "zscore_nonzero", "ct"):
        done = apply(preprocessing(normalization=mode, crop_to_foreground=True), {"image": flat})  # type: ignore[arg-type]
        assert (done["image"] == 0).all()


def test_each_channel_has_its_own_normalisation(tmp_path: Path) -> None:
    """CT by what is known of all cases, as nnU-Net's CTNormalization; PET by its own mean and deviation."""
    values = np.random.default_rng(0).uniform(-1000, 1000, (*SHAPE, 3)).astype(np.float32)
    path = save(tmp_path / "a.nii.gz", values, np.eye(4))
    options = {"normalization": ["ct", "zscore", "none"], "window_hu": [-100, 200], "ct_mean_std": [40.0, 25.0]}
    image = apply(preprocessing(**options), {"image": path})["image"].numpy()  # type: ignore[arg-type]
    np.testing.assert_allclose(image[0], (np.clip(values[..., 0], -100, 200) - 40) / 25, atol=1e-5)
    pet = values[..., 1].astype(np.float64)
    np.testing.assert_allclose(image[1], (pet - pet.mean()) / pet.std(), atol=1e-5)
    np.testing.assert_array_equal(image[2], values[..., 2])


def test_background_is_what_the_corners_share() -> None:
    channel = torch.rand(5, 6, 7)
    assert background_value(channel) is None
    for corner in ((0, 0, 0), (-1, 0, 0), (0, -1, 0), (-1, -1, -1)):
        channel[corner] = -3.0
    assert background_value(channel) == -3.0


def test_two_dimensions(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(10, 12)).astype(np.float32)
    label = (values > 0).astype(np.uint8)
    sagittal = np.array([[0, 0, 1.0, 5], [0.5, 0, 0, 6], [0, 0.8, 0, 7], [0, 0, 0, 1]])
    for name, affine in {"axial": np.diag([-0.5, 0.8, 3, 1]), "sagittal": sagittal}.items():
        image = save(tmp_path / f"{name}.nii.gz", values, affine)
        case = {"image": image, "label": save(tmp_path / "label.nii.gz", label[..., None], affine)}
        done = apply(preprocessing(spatial_dims=2, normalization="none"), case)
        assert done["image"].shape == (1, 10, 12)
        assert done["native_shape"] == (10, 12)
        logits = torch.nn.functional.one_hot(done["label"][0].as_tensor().long(), 2).movedim(-1, 0).float()
        labels = Labels({"background": 0, "a": 1})
        native = to_native(logits, done["image"].affine, done["native_affine"], done["native_shape"], labels)
        np.testing.assert_array_equal(native.numpy(), label)
        finer = apply(preprocessing(spatial_dims=2, spacing_mm=(0.25, 0.4)), case)
        assert finer["image"].shape[1:] == (19, 23)
    volume = apply(preprocessing(spatial_dims=3), {"image": image})
    assert volume["image"].shape == (1, 1, 10, 12)  # sagittal: one slice along left-right
    assert volume["native_shape"] == (10, 12, 1)


@pytest.mark.parametrize("case", ["oblique"], indirect=True)
def test_bad_cases_are_refused_by_name(case: dict[str, Any], tmp_path: Path) -> None:
    affine = AFFINES["oblique"]
    for value in (np.nan, np.inf):
        values = np.zeros(SHAPE, np.float32)
        values[3, 3, 3] = value
        broken = case | {"image": save(tmp_path / "broken.nii.gz", values, affine)}
        with pytest.raises(DataError, match=r"broken\.nii\.gz: 1 voxels"):
            apply(preprocessing(), broken)
    moved = case | {"label": save(tmp_path / "moved.nii.gz", np.zeros(SHAPE, np.uint8), affine @ SHIFT)}
    with pytest.raises(DataError, match="another grid"):
        apply(preprocessing(), moved)
    with pytest.raises(DataError, match="3 channels, expected 4"):
        apply(preprocessing(channels=4), case)
    with pytest.raises(DataError, match="expected two dimensions"):
        apply(preprocessing(spatial_dims=2), case)


def test_real_volumes_of_four_channels(test_data: Path) -> None:
    folder = test_data / "Task01_BrainTumour_slabs"
    case = {"image": str(folder / "imagesTr/BRATS_119.nii.gz"), "label": str(folder / "labelsTr/BRATS_119.nii.gz")}
    done = apply(preprocessing(crop_to_foreground=True, normalization="zscore_nonzero"), case)
    assert done["image"].shape[0] == 4
    assert done["image"].shape[1:] == done["label"].shape[1:]
    original = nibabel.load(case["label"]).get_fdata()
    assert int((done["label"] > 0).sum()) == int((original > 0).sum()), "the crop must not cut the tumour"


@pytest.mark.parametrize(("shape", "size"), [((40, 100), (20, 50)), ((90, 60), (50, 33)), ((20, 25), (40, 50))])
def test_a_picture_is_resized_by_its_longer_side_and_its_mask_finds_back(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    rows, columns = np.indices(shape)
    label = ((rows // 10 + columns // 10) % 2).astype(np.uint8)
    image = label * 100 + 20
    for key, values in {"image": image, "label": label}.items():
        Pillow.fromarray(values).save(tmp_path / f"{key}.png")
    case = {key: str(tmp_path / f"{key}.png") for key in ("image", "label")}
    prepare = preprocessing(orientation="LP", spatial_dims=2, normalization="none", longest_side=50)
    found = apply(prepare, case)
    assert tuple(found["image"].shape[1:]) == tuple(found["label"].shape[1:]) == size
    torch.testing.assert_close(found["image"].affine, found["label"].affine)
    logits = torch.stack([60 - found["image"][0], found["image"][0] - 60]).as_tensor()
    labels = Labels({"background": 0, "square": 1})
    back = to_native(logits, found["image"].affine, found["native_affine"], found["native_shape"], labels)
    assert back.shape == shape
    assert float((back.numpy() == label).mean()) > (0.98 if max(shape) <= 50 else 0.93)
