"""Gaussian filtering in many dimensions on the permutohedral lattice (Adams, Baek & Davis, Eurographics 2010).

A point's value is shared among the d + 1 lattice vertices around it (splat), the vertices are blurred along each of the
d + 1 axes of the lattice, and each point reads its vertices again (slice): linear in the number of points, where the
sum over all pairs is quadratic. Vertices are found by sorting integer keys; each of the three steps is a sum over rows
with weights, `embedding_bag`, which PyTorch has vectorised for CPU and CUDA.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

POINTS_AT_ONCE = 2**16  # bounds the memory for building a lattice on a volume
EXACT_KEYS = 2**62  # as many vertices can be numbered without a hash


class PermutohedralLattice:
    """The filter `out_i = sum_j s_i exp(-|f_i - f_j|^2 / 2) s_j in_j`, approximately, with all scales `s` 1 at first.

    As in the authors' code, only vertices that some point touches take part in the blur, so the approximation is good
    where points lie closer than about one unit, and isolated points keep most of their value to themselves.

    Args:
        features: `(N, d)`, in units of the standard deviation along each dimension.
    """

    def __init__(self, features: Tensor) -> None:
        features = features.float()
        points, dims = features.shape
        basis = _basis(dims).to(features.device)
        strides = _strides(features, basis)
        found = [_simplex(part, basis, strides) for part in features.split(POINTS_AT_ONCE)]
        unique = [torch.unique(keys, return_inverse=True) for keys, _ in found]
        self.slice_weights = torch.cat([weights for _, weights in found])  # (N, d + 1)
        del found
        keys = torch.unique(torch.cat([part for part, _ in unique]))  # (M,) sorted
        self.vertices = len(keys)
        index = torch.int32 if points * (dims + 1) < 2**31 else torch.int64
        # (N, d + 1): the vertices around each point
        self.slice_index = torch.cat([torch.searchsorted(keys, part).to(index)[inverse] for part, inverse in unique])
        del unique

        # The same pairs ordered by vertex, for the splat. One more vertex, of value 0, stands for all absent ones.
        ordered, order = torch.sort(self.slice_index.flatten(), stable=True)
        ends = torch.arange(self.vertices + 2, dtype=ordered.dtype, device=ordered.device)
        self.splat_offsets = torch.searchsorted(ordered, ends).to(index)
        del ordered
        self.splat_weights = self.slice_weights.flatten()[order]
        self.splat_index = order.div_(dims + 1, rounding_mode="floor").to(index)
        self.neighbours = _neighbours(keys, strides, dims, index)  # d + 1 times (M + 1, 3)
        self.blur_weights = torch.tensor([1.0, 0.5, 0.5], device=keys.device).expand(self.vertices + 1, 3).contiguous()
        self.slice_weights /= 1 + 2.0**-dims  # the blur's total weight (Adams et al., authors' code)

    def rescale(self, scale: Tensor) -> None:
        """Multiply each point's scale, `s_i` above, by `scale` `(N,)`."""
        self.slice_weights *= scale[:, None]
        self.splat_weights *= scale[self.splat_index]

    def __call__(self, values: Tensor) -> Tensor:
        """Filter `(N, K)` float32, each column alone."""
        vertices = F.embedding_bag(
            self.splat_index,
            values,
            self.splat_offsets,
            mode="sum",
            per_sample_weights=self.splat_weights,
            include_last_offset=True,
        )
        for neighbours in self.neighbours:
            vertices = F.embedding_bag(neighbours, vertices, mode="sum", per_sample_weights=self.blur_weights)
        return F.embedding_bag(self.slice_index, vertices, mode="sum", per_sample_weights=self.slice_weights)


def _basis(dims: int) -> Tensor:
    """`(d, d + 1)`: features -> the hyperplane of coordinates that sum to 0, scaled so that the filter's standard
    deviation is 1 (Adams et al., section 3)."""
    basis = torch.zeros(dims, dims + 1, dtype=torch.float64)
    for i in range(dims):
        scale = math.sqrt(2 / 3) * (dims + 1) / math.sqrt((i + 1) * (i + 2))
        basis[i, : i + 1] = scale
        basis[i, i + 1] = -(i + 1) * scale
    return basis


def _strides(features: Tensor, basis: Tensor) -> Tensor:
    """`(d + 1,)` int64 such that the dot product with a vertex's coordinates is its key.

    The coordinates sum to 0, so the last one is left out. Where the lattice is too large for keys without collision,
    the strides are powers of an odd number modulo 2^64: M vertices then collide with probability about M^2 / 2^64.
    """
    dims = len(basis)
    low, high = (bound.double() for bound in torch.aminmax(features, dim=0))
    spread = ((high - low) @ basis.abs()).tolist()[:dims]  # of the points, along each coordinate
    spans = [math.ceil(value) + 8 * (dims + 1) for value in spread]  # of their vertices and these' neighbours
    if math.prod(spans) < EXACT_KEYS:
        strides = [math.prod(spans[i + 1 :]) for i in range(dims)]
    else:
        unsigned = [pow(0x9E3779B97F4A7C15, i + 1, 2**64) for i in range(dims)]
        strides = [value - 2**64 if value >= 2**63 else value for value in unsigned]
    return torch.tensor([*strides, 0], device=features.device)


def _simplex(features: Tensor, basis: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """`(n, d)` -> keys `(n, d + 1)` of the vertices around each point and its barycentric weights on them."""
    dims = len(basis)
    elevated = (features.double() @ basis).float().T.contiguous()  # (d + 1, n)
    cell = torch.round(elevated / (dims + 1))
    nearest = cell * (dims + 1)  # the nearest multiple of d + 1, may be off the hyperplane
    residual = elevated - nearest
    rank = torch.zeros_like(cell, dtype=torch.int64)  # 0 where the residual is largest
    for i in range(dims):
        for j in range(i + 1, dims + 1):
            less = residual[i] < residual[j]
            rank[i] += less
            rank[j] += ~less
    rank += cell.sum(dim=0).long()  # back onto the hyperplane
    wrap = (rank < 0).long() - (rank > dims).long()
    rank += wrap * (dims + 1)
    nearest += wrap * (dims + 1)

    # Vertex r lies at nearest + r, less d + 1 in the r coordinates of largest rank.
    falling = torch.empty_like(elevated).scatter_(0, rank, (elevated - nearest) / (dims + 1)).flip(0)
    weights = torch.cat([1 + falling[:1] - falling[-1:], falling.diff(dim=0)])
    by_rank = torch.empty_like(rank).scatter_(0, rank, strides[:, None].expand_as(rank)).flip(0)
    origin = (nearest.long() * strides[:, None]).sum(dim=0, keepdim=True)
    steps = strides.sum() - (dims + 1) * by_rank[:-1]
    keys = torch.cat([origin, origin + steps.cumsum(dim=0)])
    return keys.T.contiguous(), weights.T.contiguous()


def _neighbours(keys: Tensor, strides: Tensor, dims: int, index: torch.dtype) -> list[Tensor]:
    """For each axis `(M + 1, 3)`: a vertex, the next and the one before; M where there is none."""
    count = len(keys)
    own = torch.arange(count, device=keys.device)
    tables = []
    for axis in range(dims + 1):
        step = strides.sum() - (dims + 1) * strides[axis]
        columns = [own]
        for wanted in (keys + step, keys - step):
            place = torch.searchsorted(keys, wanted).clamp_(max=count - 1)
            columns.append(torch.where(keys[place] == wanted, place, count))
        tables.append(F.pad(torch.stack(columns, dim=1), (0, 0, 0, 1), value=count).to(index))
    return tables
