"""What a preprocessed case takes, in memory and in the cache, which is uncompressed."""

from __future__ import annotations

from collections.abc import Iterable

VOXELS_A_VALUE = 200_000  # of each label value, so many voxels are listed at most, evenly spaced


def entry_bytes(
    voxels: float, channels: int, *, bytes_a_value: int = 4, labelled: bool = True, counts: Iterable[float] = ()
) -> int:
    """Bytes of image and label on a grid, and of the list of the label's voxels.

    Args:
        voxels: of the grid.
        bytes_a_value: 4 (float32), or 1 where bytes stay bytes.
        counts: voxels of each label value but 0.
    """
    listed = sum(min(count, VOXELS_A_VALUE) for count in counts)
    return int(voxels * (channels * bytes_a_value + labelled) + 4 * listed)
