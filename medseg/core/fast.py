"""Components, holes, gzip and CRC-32: by the faster libraries of the extra `fast` where they are installed.

Which implementation is at work is decided here, and nowhere else; both give the same masks and the
same numbers of components.
"""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import numpy as np

GZIP_LEVEL = 1  # masks are runs of one value: higher levels take longer for the same size


def components(mask: np.ndarray, connectivity: int = 1) -> tuple[np.ndarray, int]:
    """The number of each voxel's connected component `(*spatial)`, 0 outside, and how many there are.

    They are numbered from 1 in the order of their first voxels.

    Args:
        mask: boolean, 2D or 3D.
        connectivity: what neighbours share: 1 a face, 2 at least an edge, 3 at least a corner (in 2D: 1 an edge, 2 at
            least a corner).
    """
    try:
        import cc3d
    except ImportError:
        from scipy import ndimage

        return ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, connectivity))
    neighbours: Any = {2: (4, 8), 3: (6, 18, 26)}[mask.ndim][connectivity - 1]
    # Not as booleans: of small masks cc3d 4.1.1 then mislabels voxels (8 neighbours), or fails (26 neighbours).
    numbers = np.ascontiguousarray(mask, dtype=np.uint8)
    return cc3d.connected_components(numbers, connectivity=neighbours, return_N=True)


def filled(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes filled: voxels that reach no edge of the array over faces (in 2D: edges) outside it.

    Args:
        mask: boolean, 2D or 3D.
    """
    try:
        import fill_voids
    except ImportError:
        outside, count = components(~mask)
        enclosed = np.ones(count + 1, dtype=bool)
        enclosed[0] = False
        for axis in range(mask.ndim):
            for end in (0, -1):
                enclosed[np.unique(np.take(outside, end, axis))] = False
        return mask | enclosed[outside]
    # With a rim of background: fill_voids alone takes some voxels on the edge of the array for enclosed.
    return fill_voids.fill(np.pad(np.asarray(mask, dtype=bool), 1))[(slice(1, -1),) * mask.ndim]


class TooLarge(Exception):
    """What is unpacked is more than was to be."""


def decompress(content: bytes, most: int = 2**62) -> bytes:
    """What a gzip file holds; a damaged one raises BadGzipFile or EOFError.

    Args:
        most: bytes; no more are unpacked.

    Raises:
        TooLarge: it holds more.
    """
    try:
        from isal import isal_zlib

        library: Any = isal_zlib
    except ImportError:
        library = zlib
    parts: list[bytes] = []
    while content:  # a file may be several, one behind the other
        unpacking = library.decompressobj(wbits=31)
        try:
            parts.append(unpacking.decompress(content, most + 1))
        except library.error as error:
            raise gzip.BadGzipFile("not compressed by gzip, or damaged") from error
        most -= len(parts[-1])
        if most < 0:
            raise TooLarge
        if not unpacking.eof:
            raise EOFError("the file ends before what is compressed does")
        content = unpacking.unused_data.lstrip(b"\0")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def compress(content: bytes) -> bytes:
    """A gzip file without a name and a date: the same content gives the same bytes, by the same library."""
    try:
        from isal import igzip
    except ImportError:
        return gzip.compress(content, GZIP_LEVEL, mtime=0)
    return igzip.compress(content, GZIP_LEVEL, mtime=0)


def crc32(content: bytes | memoryview, before: int = 0) -> int:
    """CRC-32 of bytes, and of what came `before` them; isal's takes a ninth of the time of zlib's."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32(content, before)
    return isal_zlib.crc32(content, before)
