"""Streams of random numbers: one for each change of each sample, so that no change knows of another."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence


class _Digest(ISeedSequence):
    """The 256 bits that a PCG64 starts from, as they are: a hash is mixed already, and this is four times as fast."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return np.frombuffer(self.digest, dtype)[:n_words]


def stream(seed: int, sample: int, name: str) -> np.random.Generator:
    """The random numbers of what is called `name` in that sample: no other name's, sample's or seed's."""
    digest = blake2b(f"{seed}/{sample}/{name}".encode(), digest_size=32).digest()
    return np.random.Generator(np.random.PCG64(_Digest(digest)))  # type: ignore[arg-type]  # numpy's stub is too narrow
