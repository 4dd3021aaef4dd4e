"""Dense CRF: the lattice against the exact Gaussian and a literal implementation, the result against pydensecrf2."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.core.errors import ConfigError
from medseg.inference import permutohedral
from medseg.inference.crf import PUBLISHED, CRFParameters, dense_crf, published_parameters
from medseg.inference.permutohedral import PermutohedralLattice

GRIDS = [((20, 26), 0), ((20, 26), 4), ((8, 9, 10), 0), ((8, 9, 10), 1), ((8, 9, 10), 4)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _smooth(channels: int, spatial: tuple[int, ...], seed: int = 0) -> Tensor:
    """`(channels, *spatial)` in 0 to 1, linear between random corners."""
    corners = torch.rand(1, channels, *[2] * len(spatial), generator=torch.Generator().manual_seed(seed))
    mode = {2: "bilinear", 3: "trilinear"}[len(spatial)]
    return F.interpolate(corners, spatial, mode=mode, align_corners=True)[0]


def _features(spatial: tuple[int, ...], channels: int, std: float = 3, image_std: float = 0.4) -> Tensor:
    """`(N, d)`: positions, first axis last, and channels, in standard deviations."""
    axes = torch.meshgrid(*[torch.arange(size) / std for size in spatial], indexing="ij")
    image = _smooth(channels, spatial) / image_std if channels else torch.zeros(0, *spatial)
    return torch.cat([torch.stack(axes[::-1]), image]).flatten(1).T


def _normalised(kernel: Tensor) -> Tensor:
    scale = kernel.sum(dim=1).rsqrt()
    return scale[:, None] * kernel * scale


def _literal_lattice(features: np.ndarray) -> np.ndarray:
    """The lattice filter as an N x N matrix, point by point and vertex by vertex, as the paper describes it."""
    points, dims = features.shape
    matrix: dict[tuple[int, ...], np.ndarray] = {}
    corners = []
    for i, feature in enumerate(features):
        y = np.zeros(dims + 1)
        for k, value in enumerate(feature):
            direction = np.array([1.0] * (k + 1) + [-(k + 1.0)] + [0.0] * (dims - k - 1))
            y += value * direction / math.sqrt((k + 1) * (k + 2)) * math.sqrt(2 / 3) * (dims + 1)
        zero = np.rint(y / (dims + 1)) * (dims + 1)
        while zero.sum() > 0:  # back onto the hyperplane, along the coordinate that moved up most
            zero[np.argmin(y - zero)] -= dims + 1
        while zero.sum() < 0:
            zero[np.argmax(y - zero)] += dims + 1
        order = np.argsort(-(y - zero), kind="stable")
        falling = (y - zero)[order] / (dims + 1)
        weights = [
            1 + falling[-1] - falling[0],
            *(falling[dims - r] - falling[dims - r + 1] for r in range(1, dims + 1)),
        ]
        for r, weight in enumerate(weights):
            vertex = zero + r
            vertex[order[dims + 1 - r :]] -= dims + 1
            key = tuple(vertex.astype(int))
            matrix.setdefault(key, np.zeros(points))[i] += weight
            corners.append((i, key, weight))
    for axis in range(dims + 1):
        step = np.ones(dims + 1, dtype=int)
        step[axis] -= dims + 1
        nothing = np.zeros(points)
        matrix = {
            key: row + 0.5 * (matrix.get(tuple(key + step), nothing) + matrix.get(tuple(key - step), nothing))
            for key, row in matrix.items()
        }
    result = np.zeros((points, points))
    for i, key, weight in corners:
        result[i] += weight * matrix[key] / (1 + 2.0**-dims)
    return result


@pytest.mark.parametrize(("spatial", "channels"), GRIDS)
def test_lattice_approximates_the_gaussian(spatial: tuple[int, ...], channels: int) -> None:
    features = _features(spatial, channels)
    lattice = PermutohedralLattice(features)
    values = F.interpolate(torch.rand(1, 3, *[3] * len(spatial)), spatial)[0].flatten(1).T
    got = _normalised(lattice(torch.eye(len(features)))) @ values
    squared = torch.cdist(features.double(), features.double()) ** 2

    def mean_error(std: float) -> float:
        return float((got - _normalised(torch.exp(-squared / (2 * std**2))).float() @ values).abs().mean())

    assert mean_error(1) < 0.015  # of values from 0 to 1
    assert mean_error(1) < min(mean_error(0.75), mean_error(1.33))


@pytest.mark.parametrize(("spatial", "channels"), [((6, 7), 0), ((6, 7), 4), ((3, 4, 5), 0), ((3, 4, 5), 4)])
def test_lattice_equals_a_literal_one(spatial: tuple[int, ...], channels: int) -> None:
    features = _features(spatial, channels, std=1.7, image_std=0.1)
    features += torch.linspace(0.11, 0.23, features.shape[1])  # no point exactly between two cells of the lattice
    got = PermutohedralLattice(features)(torch.eye(len(features)))
    np.testing.assert_allclose(got, _literal_lattice(features.double().numpy()), atol=2e-5)


@pytest.mark.parametrize(("constant", "value"), [("POINTS_AT_ONCE", 50), ("EXACT_KEYS", 0)])
def test_parts_and_hashed_keys_change_nothing(constant: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = _features((9, 10, 11), 4, image_std=0.1)
    values = torch.rand(len(features), 3)
    expected = PermutohedralLattice(features)
    monkeypatch.setattr(permutohedral, constant, value)
    lattice = PermutohedralLattice(features)
    assert lattice.vertices == expected.vertices
    torch.testing.assert_close(lattice(values), expected(values))


@pytest.mark.parametrize(("spatial", "channels"), [((6, 7), 3), ((3, 4, 5), 4)])
def test_mean_field_against_loops(spatial: tuple[int, ...], channels: int) -> None:
    parameters = CRFParameters(2, 1.5, 2, 4, 5, 0.2)
    logits = 2 * torch.randn(3, *spatial)
    got = dense_crf(logits, _smooth(channels, spatial), parameters).flatten(1).T

    points = math.prod(spatial)
    potentials = []
    for weight, features in ((1.5, _features(spatial, 0, 2)), (4, _features(spatial, channels, 5, 0.2))):
        kernel = PermutohedralLattice(features)(torch.eye(points)).double().numpy()
        norm = kernel.sum(axis=1)
        potentials.append((weight, kernel / np.sqrt(np.outer(norm, norm))))
    unary = -logits.log_softmax(dim=0).flatten(1).T.double().numpy()
    q = np.exp(-unary)
    for _ in range(2):
        new = np.zeros_like(q)
        for i in range(points):
            for k in range(3):
                # Potts: what the other classes' neighbours cost, less a constant of the voxel
                energy = unary[i, k] - sum(w * sum(m[i, j] * q[j, k] for j in range(points)) for w, m in potentials)
                new[i, k] = math.exp(-energy)
            new[i] /= new[i].sum()
        q = new
    np.testing.assert_allclose(got, q, atol=1e-4)


def test_a_region_is_a_two_class_field() -> None:
    logits, image = 3 * torch.randn(3, 12, 14), 255 * _smooth(2, (12, 14))
    together = dense_crf(logits, image, regions=True)
    for region, probability in zip(logits, together, strict=True):
        alone = dense_crf(torch.stack([torch.zeros_like(region), region]), image)
        torch.testing.assert_close(probability, alone[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("regions", [False, True])
def test_probabilities_are_as_good_as_logits(regions: bool) -> None:
    logits, image = 8 * torch.randn(3, 12, 14), 255 * _smooth(3, (12, 14))
    linear = logits.sigmoid() if regions else logits.softmax(dim=0)
    torch.testing.assert_close(
        dense_crf(linear, image, regions=regions, probabilities=True), dense_crf(logits, image, regions=regions)
    )


def test_edges_of_the_image_win_over_noise() -> None:
    truth = torch.zeros(24, 24, 24, dtype=torch.long)
    truth[5:15, 8:20, 6:18] = 1
    image = 100.0 * truth[None] + torch.randn(1, 24, 24, 24)
    logits = 1.5 * F.one_hot(truth, 2).movedim(-1, 0) + 1.5 * torch.randn(2, 24, 24, 24)
    mask = dense_crf(logits, image).argmax(dim=0)
    assert (logits.argmax(dim=0) != truth).float().mean() > 0.2
    assert torch.equal(mask, truth)


def test_standard_deviations_are_in_the_unit_of_the_spacing() -> None:
    logits, image = torch.randn(2, 6, 8, 10), _smooth(1, (6, 8, 10))
    parameters = CRFParameters(gaussian_std=6.0, bilateral_std=12.0, image_std=0.3)
    in_voxels = replace(parameters, gaussian_std=(2.0, 6.0, 12.0), bilateral_std=(4.0, 12.0, 24.0))
    torch.testing.assert_close(
        dense_crf(logits, image, parameters, spacing=(3, 1, 0.5)), dense_crf(logits, image, in_voxels)
    )


def test_no_kernel_is_the_softmax() -> None:
    logits = torch.randn(4, 5, 6)
    nothing = CRFParameters(gaussian_weight=0, bilateral_weight=0)
    torch.testing.assert_close(dense_crf(logits, torch.rand(1, 5, 6), nothing), logits.softmax(dim=0))


def test_inputs_stay_as_they_were() -> None:
    logits, probabilities, image = torch.randn(2, 5, 6), torch.rand(2, 5, 6), torch.rand(1, 5, 6)
    copies = logits.clone(), probabilities.clone(), image.clone()
    dense_crf(logits, image)
    dense_crf(probabilities, image, probabilities=True)
    dense_crf(probabilities, image, probabilities=True, regions=True)
    for tensor, copy in zip((logits, probabilities, image), copies, strict=True):
        assert torch.equal(tensor, copy)


def test_mistakes_are_named() -> None:
    logits, image = torch.randn(2, 5, 6), torch.rand(3, 5, 6)
    with pytest.raises(ConfigError, match="did you mean 'deeplabv2'"):
        published_parameters("deeplab2")
    with pytest.raises(ConfigError, match=r"image_std: got \(1, 2\), expected one positive number or 3"):
        dense_crf(logits, image, CRFParameters(image_std=(1, 2)))
    with pytest.raises(ConfigError, match="bilateral_std: got 0"):
        dense_crf(logits, image, CRFParameters(bilateral_std=0))
    with pytest.raises(ValueError, match="different grids"):
        dense_crf(logits, image[:, :, 1:])


@pytest.mark.gpu
def test_cuda_equals_cpu() -> None:
    logits, image = torch.randn(5, 60, 70), 255 * _smooth(3, (60, 70))
    torch.testing.assert_close(dense_crf(logits.cuda(), image).cpu(), dense_crf(logits, image), atol=1e-4, rtol=1e-3)


# --- the oracle -------------------------------------------------------------------------------------------------------


def _peer(logits: Tensor, image: Tensor, parameters: CRFParameters) -> np.ndarray:
    """The same by pydensecrf2: `(K, *spatial)`, its own features in 2D with RGB, ours otherwise."""
    peer = pytest.importorskip(
        "pydensecrf.densecrf", reason="needs pydensecrf2 (builds from source: pip install pydensecrf2, with a compiler)"
    )
    classes, *spatial = logits.shape
    unary = -np.log(np.clip(logits.softmax(dim=0).flatten(1).numpy(), 1e-5, 1))
    if len(spatial) == 2 and len(image) == 3:
        crf = peer.DenseCRF2D(spatial[1], spatial[0], classes)
        crf.setUnaryEnergy(unary)
        crf.addPairwiseGaussian(parameters.gaussian_std, parameters.gaussian_weight)
        picture = np.ascontiguousarray(image.byte().permute(1, 2, 0).numpy())
        crf.addPairwiseBilateral(parameters.bilateral_std, parameters.image_std, picture, parameters.bilateral_weight)
    else:
        crf = peer.DenseCRF(math.prod(spatial), classes)
        crf.setUnaryEnergy(unary)
        near = _features(tuple(spatial), 0, parameters.gaussian_std)
        crf.addPairwiseEnergy(np.ascontiguousarray(near.T.numpy()), parameters.gaussian_weight)
        far = _features(tuple(spatial), 0, parameters.bilateral_std)
        far = torch.cat([far.T, image.flatten(1) / parameters.image_std])
        crf.addPairwiseEnergy(np.ascontiguousarray(far.numpy()), parameters.bilateral_weight)
    return np.array(crf.inference(parameters.iterations)).reshape(classes, *spatial)


def _noisy(truth: Tensor, classes: int) -> Tensor:
    """Logits `(classes, H, W)` that are right more often than not, wrong in patches and in single pixels."""
    draw = torch.Generator().manual_seed(0)
    height, width = truth.shape
    coarse = torch.randn(1, classes, height // 8 + 1, width // 8 + 1, generator=draw)
    patches = F.interpolate(coarse, (height, width), mode="bilinear")[0]
    noise = torch.randn(classes, height, width, generator=draw)
    return 3 * F.one_hot(truth, classes).movedim(-1, 0) + 2 * patches + noise


@pytest.mark.parametrize("name", ["2011_000003", "2011_000006", "2011_000025"])
def test_same_labels_as_pydensecrf_on_a_photograph(name: str, test_data: Path) -> None:
    from PIL import Image  # comes with matplotlib

    folder = test_data / "VOCdevkit_sample" / "VOC2012"
    image = torch.from_numpy(np.array(Image.open(folder / "JPEGImages" / f"{name}.jpg"))).permute(2, 0, 1)
    truth = torch.from_numpy(np.array(Image.open(folder / "SegmentationClass" / f"{name}.png"))).long()
    logits = _noisy(truth * (truth != 255), 21)
    expected = _peer(logits, image, PUBLISHED["pydensecrf"])
    got = dense_crf(logits, image).numpy()
    assert (got.argmax(0) == expected.argmax(0)).mean() >= 0.999
    assert np.abs(got - expected).max() < 1e-3
    assert (logits.argmax(0).numpy() != got.argmax(0)).mean() > 0.2  # there was something to do


@pytest.mark.parametrize(("spatial", "channels"), [((40, 53), 1), ((40, 53), 12), ((16, 17, 18), 1), ((16, 17, 18), 4)])
def test_same_probabilities_as_pydensecrf(spatial: tuple[int, ...], channels: int) -> None:
    logits = torch.randn(4, *spatial, generator=torch.Generator().manual_seed(1))
    image = 255 * _smooth(channels, spatial)
    parameters = CRFParameters(5, 1, 2, 3, 20, 13)
    np.testing.assert_allclose(
        dense_crf(logits, image, parameters), _peer(logits, image, parameters), atol=1e-4, rtol=1e-3
    )
