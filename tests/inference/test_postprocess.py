"""From logits to a mask on the native grid, against SimpleITK and bit by bit."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor

from medseg.core.labels import Labels
from medseg.inference.postprocess import (
    LogitsToMaskd,
    index_map,
    logits_to_mask,
    mask_dtype,
    to_native,
    whole_voxels,
)

CLASSES = Labels(classes={"background": 0, "one": 1, "two": 2})


def one_hot(mask: torch.Tensor, classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(mask.long(), classes).movedim(-1, 0).float()


def affine(spacing: tuple[float, ...], origin: tuple[float, ...], rotation: np.ndarray | None = None) -> np.ndarray:
    matrix = np.eye(len(spacing) + 1)
    matrix[:-1, :-1] = (np.eye(len(spacing)) if rotation is None else rotation) @ np.diag(spacing)
    matrix[:-1, -1] = origin
    return matrix


def turn(degrees_x: float, degrees_z: float) -> np.ndarray:
    a, b = np.deg2rad([degrees_x, degrees_z])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return about_x @ about_z


def sitk_image(array: np.ndarray, matrix: np.ndarray) -> SimpleITK.Image:
    """RAS affine -> SimpleITK's LPS geometry (which needs a right-handed or left-handed orthonormal direction)."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


GRIDS = {
    "coarser": (affine((2.0, 1.7, 3.1), (-3.0, 4.0, 2.0)), (9, 11, 6)),
    "finer": (affine((0.5, 0.4, 0.7), (1.0, 5.0, 3.0)), (25, 30, 20)),
    "flipped": (affine((-1.1, 0.9, -1.3), (16.0, 2.0, 15.0)), (15, 17, 12)),
    "permuted": (affine((1.2, 0.8, 1.5), (1.03, 3.07, 2.02), np.eye(3)[[2, 0, 1]]), (12, 18, 11)),
    "oblique": (affine((1.1, 0.9, 1.6), (0.0, 2.0, 1.0), turn(17, -9)), (16, 19, 10)),
    "larger": (affine((1.3, 1.3, 1.3), (-9.0, -8.0, -7.0)), (30, 30, 30)),
    "aside": (affine((1.0, 1.0, 1.0), (100.0, 100.0, 100.0)), (5, 6, 7)),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("memory_mib", [512, 1e-3])
def test_equals_simpleitk(grid: str, memory_mib: float) -> None:
    native_affine, shape = GRIDS[grid]
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 14, 16, 13, generator=generator)
    logits[0] -= 0.5
    source = affine((1.0, 1.25, 1.5), (1.0, -2.0, 0.5))
    mask = to_native(logits, source, native_affine, shape, CLASSES, memory_mib=memory_mib)
    assert mask.dtype == torch.uint8
    assert tuple(mask.shape) == shape

    reference = sitk_image(np.zeros(shape, np.float32), native_affine)
    sampled = []
    for channel in logits.numpy():
        outside = 1e6 if not sampled else -1e6  # background wins where there is no logit
        resampled = SimpleITK.Resample(
            sitk_image(channel, source),
            reference,
            SimpleITK.Transform(),
            SimpleITK.sitkLinear,
            outside,
            SimpleITK.sitkFloat64,
        )
        sampled.append(SimpleITK.GetArrayFromImage(resampled).T)
    stack = np.sort(np.stack(sampled), 0)
    clear = stack[-1] - stack[-2] > 1e-3  # where two classes are not level
    # SimpleITK and this code may differ on voxels exactly on the outer face; none of these grids has many.
    matrix, offset = index_map(source, native_affine, 3)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) @ matrix.T + offset
    edge = np.minimum(index + 0.5, np.array(logits.shape[1:]) - 0.5 - index).min(-1)
    clear &= np.abs(edge) > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(mask.numpy()[clear], np.stack(sampled).argmax(0)[clear])
    if grid == "aside":
        assert mask.max() == 0
    else:
        assert set(np.unique(mask)) == {0, 1, 2}


def test_every_orientation_is_exact() -> None:
    """All 48 flips and permutations, with a crop: the label comes back bit by bit."""
    native = torch.randint(0, 3, (5, 6, 7), generator=torch.Generator().manual_seed(0))
    oblique = affine((0.7, 1.3, 2.1), (11.0, -7.0, 3.0), turn(25, 40))
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            step = np.zeros((4, 4))  # index on the preprocessed grid -> native index
            step[3, 3] = 1
            moved = native.permute(order)
            for axis, (source, sign) in enumerate(zip(order, signs, strict=True)):
                step[source, axis] = sign
                step[source, 3] = 0 if sign > 0 else native.shape[source] - 1
                if sign < 0:
                    moved = moved.flip(axis)
            moved = moved[1:, :-1]
            step[:, 3] += step[:, 0]  # the crop dropped the first slice
            expected = native.clone()
            drop = torch.zeros(native.permute(order).shape, dtype=torch.bool)
            drop[1:, :-1] = True
            for axis, sign in enumerate(signs):
                if sign < 0:
                    drop = drop.flip(axis)
            expected[~drop.permute(*np.argsort(order).tolist())] = 0
            affine32 = (oblique @ step).astype(np.float32)  # as a header stores it
            got = to_native(one_hot(moved), affine32, oblique.astype(np.float32), native.shape, CLASSES)
            assert torch.equal(got.long(), expected)


def test_identity_is_exact_and_two_dimensional_too() -> None:
    mask = torch.randint(0, 3, (9, 8))
    assert torch.equal(to_native(one_hot(mask), np.eye(4), np.eye(4), (9, 8), CLASSES).long(), mask)
    assert torch.equal(to_native(one_hot(mask), np.eye(3), np.eye(3), (9, 8), CLASSES).long(), mask)
    finer = to_native(one_hot(mask), np.eye(3), affine((0.5, 0.5), (-0.25, -0.25)), (18, 16), CLASSES).long()
    assert torch.equal(finer, mask.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_padding_is_taken_off() -> None:
    mask = torch.randint(0, 3, (6, 5, 4))
    padded = torch.nn.functional.pad(mask, (2, 1, 3, 0, 1, 1))
    source = np.eye(4)
    source[:3, 3] = [-1, -3, -2]
    assert torch.equal(to_native(one_hot(padded), source, np.eye(4), mask.shape, CLASSES).long(), mask)


def test_half_a_voxel_is_not_the_same_grid() -> None:
    assert whole_voxels(np.eye(3), np.array([0.5, 0, 0]), (4, 4, 4)) is None
    assert whole_voxels(np.eye(3) * 1.001, np.zeros(3), (64, 64, 64)) is None
    assert whole_voxels(np.eye(3) * 1.000001, np.zeros(3), (64, 64, 64)) is not None


@pytest.mark.parametrize("rotation", [None, turn(10, 5)])
def test_memory_stays_under_the_cap(rotation: np.ndarray | None) -> None:
    """The largest tensor made while sampling is counted through torch's own allocator hooks."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple) else (result,):
                if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
                    owned = min(tensor.untyped_storage().nbytes(), tensor.nbytes)
                    if tensor.untyped_storage().data_ptr() != logits.untyped_storage().data_ptr():
                        self.size = max(self.size, owned)
            return result

    logits = torch.randn(8, 40, 40, 40)
    native = affine((0.5, 0.5, 0.5), (0.0, 0.0, 0.0), rotation)
    with Largest() as largest:
        to_native(logits, np.eye(4), native, (80, 80, 80), CLASSES_8, memory_mib=4)
    assert 0 < largest.size <= 4 * 2**20


CLASSES_8 = Labels(classes={f"class{value}": value for value in range(8)})


def test_values_and_types() -> None:
    labels = Labels(classes={"background": 0, "low": 2, "high": 600})
    logits = one_hot(torch.tensor([[0, 1, 2]]))
    assert logits_to_mask(logits, labels).tolist() == [[0, 2, 600]]
    assert mask_dtype(labels) == torch.int16
    assert mask_dtype(Labels(classes={"background": 0, "far": 70000})) == torch.int32
    assert mask_dtype(CLASSES) == torch.uint8


def test_regions_are_painted_in_order() -> None:
    labels = Labels(
        classes={"background": 0, "oedema": 1, "core": 2, "enhancing": 3},
        regions={"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)},
        region_values=(1, 2, 3),
    )
    logits = torch.tensor([[-1.0, 1, 1, 1, -1], [-1.0, -1, 1, 1, -1], [-1.0, -1, -1, 1, 1]])
    assert logits_to_mask(logits, labels).tolist() == [0, 1, 2, 3, 3]


def test_transform_uses_the_grids_of_the_case() -> None:
    native = torch.randint(0, 3, (6, 5, 4))
    source = np.diag([-1.0, 1, 1, 1])
    source[0, 3] = 5
    case = {
        "case": "a",
        "pred": MetaTensor(one_hot(native.flip(0)), affine=torch.from_numpy(source)),
        "native_affine": torch.eye(4, dtype=torch.float64),
        "native_shape": native.shape,
    }
    transform = LogitsToMaskd("pred", labels=CLASSES)
    result = transform(case)
    assert torch.equal(result["pred"][0].as_tensor().long(), native)
    assert torch.equal(result["pred"].affine, torch.eye(4, dtype=torch.float64))
    case["image"] = MetaTensor(torch.zeros(1, 6, 5, 4), affine=torch.from_numpy(source))
    case["pred"] = one_hot(native.flip(0))  # a plain tensor: the image's grid counts
    assert torch.equal(transform(case)["pred"][0].as_tensor().long(), native)
