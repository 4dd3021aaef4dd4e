"""The moments of a volume."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from medseg.data.training.moments import moments


def test_moments_are_numpys_without_a_copy_in_float64() -> None:
    voxels = np.random.default_rng(0).normal(3e6, 4, size=(150, 160, 170)).astype(np.float32)
    turned = voxels.transpose(2, 0, 1)
    tracemalloc.start()
    found = moments(turned)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == pytest.approx((voxels.mean(dtype=np.float64), voxels.std(dtype=np.float64)), rel=1e-12)
    assert peak < voxels.nbytes * 1.25
    assert moments(np.ones(1, np.float32)) == (1.0, 0.0)
