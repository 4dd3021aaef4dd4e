"""The faster libraries give what scipy and gzip give: masks, sizes, numbers and distances, to the last digit."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.core import fast
from medseg.data.files.digests import array_checksum, file_checksum

LIBRARIES = ("cc3d", "fill_voids", "isal")
STEPS = st.sampled_from([0.3, 0.7, 1.0, 1.5, 2.5, 6.0])


def without(work: Callable[[], Any]) -> Any:
    """What `work` gives where the extra is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in LIBRARIES:
            patch.setitem(sys.modules, name, None)
        return work()


def installed(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed: pip install 'medseg[fast]'")


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Empty, full, sparse and dense noise, and blobs; 2D and 3D, in either order of memory."""
    shape = draw(st.lists(st.integers(1, 12), min_size=2, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.random(shape)
    if draw(st.booleans()):
        noise = ndimage.gaussian_filter(noise, 1.0)
    mask = noise > np.quantile(noise, draw(st.sampled_from([0.05, 0.4, 0.6, 0.95])))
    mask = draw(st.sampled_from([mask, np.zeros(shape, bool), np.ones(shape, bool)]))
    return np.asfortranarray(mask) if draw(st.booleans()) else mask


@given(masks(), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_components_have_the_numbers_of_scipy(mask: np.ndarray, connectivity: int) -> None:
    installed("cc3d")
    connectivity = min(connectivity, mask.ndim)
    parts, count = fast.components(mask, connectivity)
    expected, number = without(lambda: fast.components(mask, connectivity))
    theirs, _ = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, connectivity))
    assert count == number
    assert np.array_equal(parts, expected)
    assert np.array_equal(expected, theirs)


@given(masks())
@settings(max_examples=150, deadline=None)
def test_holes_are_those_of_scipy(mask: np.ndarray) -> None:
    installed("fill_voids")
    expected = ndimage.binary_fill_holes(mask)
    before = mask.copy()
    assert np.array_equal(fast.filled(mask), expected)
    assert np.array_equal(without(lambda: fast.filled(mask)), expected)
    assert np.array_equal(mask, before)


def test_what_touches_the_edge_of_the_array_is_no_hole() -> None:
    """Noise, of which fill-voids alone fills some voxels on the edge."""
    installed("fill_voids")
    random = np.random.default_rng(0)
    for _ in range(300):
        mask = random.random(tuple(random.integers(2, 9, 3))) < random.uniform(0.4, 0.9)
        assert np.array_equal(fast.filled(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("content", [b"", b"a", bytes(10**6), np.random.default_rng(0).bytes(10**5)])
def test_gzip_goes_both_ways_between_the_libraries(content: bytes) -> None:
    installed("isal")
    ours, theirs = fast.compress(content), without(lambda: fast.compress(content))
    assert gzip.decompress(ours) == gzip.decompress(theirs) == content
    assert fast.decompress(theirs) == content
    assert without(lambda: fast.decompress(ours)) == content
    assert ours == fast.compress(content)
    assert ours[3:8] == theirs[3:8] == bytes(5), "no name, no date"


def test_a_gzip_file_may_have_several_parts() -> None:
    content = fast.compress(b"one ") + fast.compress(b"two")
    assert fast.decompress(content) == without(lambda: fast.decompress(content)) == b"one two"


@pytest.mark.parametrize(
    "damage", [b"no gzip at all, by far", gzip.compress(b"a" * 1000)[:-5]], ids=["none", "cut off"]
)
def test_a_damaged_file_is_an_error_with_either(damage: bytes) -> None:
    for read in (lambda: fast.decompress(damage), lambda: without(lambda: fast.decompress(damage))):
        with pytest.raises((OSError, EOFError)):
            read()


@given(st.binary(max_size=2000), st.binary(max_size=50))
def test_checksums_are_those_of_zlib(content: bytes, before: bytes) -> None:
    installed("isal")
    found = fast.crc32(memoryview(content), fast.crc32(before))
    assert found == without(lambda: fast.crc32(memoryview(content), fast.crc32(before)))
    assert found == zlib.crc32(before + content)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4), np.float32), np.ones((1, 5), np.uint8), np.zeros(0, np.int32)])
def test_the_checksum_of_an_array_is_that_of_its_file(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    assert array_checksum(array) == file_checksum(tmp_path / "a.npy")
