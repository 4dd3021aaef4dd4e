"""PNG files made byte by byte: two decoders read them, both as Pillow does, and what is damaged is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.core.errors import DataError
from medseg.data.files import pictures
from medseg.data.files.images import read_image

SHAPE = (9, 13)
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
DEPTHS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (6, 8)]
PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))  # Adam7


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def rows(samples: np.ndarray, depth: int, filter_type: int) -> bytes:
    """Scan lines of `(rows, columns, channels)`, each with one filter (section 9.2 of the specification)."""
    step = max(1, samples.shape[2] * depth // 8)
    before, lines = None, b""
    for row in samples.reshape(len(samples), -1):
        bits = (row[:, None].astype(np.uint32) >> np.arange(depth - 1, -1, -1)) & 1
        line = np.packbits(bits.astype(np.uint8).ravel()).astype(int)
        above = np.zeros_like(line) if before is None else before
        left, corner = (np.concatenate((np.zeros(step, int), one))[: len(line)] for one in (line, above))
        estimate = left + above - corner
        distances = np.abs(np.stack((estimate - left, estimate - above, estimate - corner)))
        paeth = np.choose(distances.argmin(0), (left, above, corner))
        guess = (np.zeros_like(line), left, above, (left + above) // 2, paeth)[filter_type]
        lines += bytes([filter_type]) + ((line - guess) % 256).astype(np.uint8).tobytes()
        before = line
    return lines


def png(samples: np.ndarray, colour: int, depth: int, *, filter_type: int = 0, interlaced: bool = False) -> list[bytes]:
    """Signature and chunks of a PNG."""
    passes = [samples[a::b, c::d] for a, b, c, d in PASSES] if interlaced else [samples]
    data = b"".join(rows(part, depth, filter_type) for part in passes if part.size)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, interlaced)
    table = [chunk(b"PLTE", bytes(range(3 * min(2**depth, 85))))] if colour == 3 else []
    end = chunk(b"IEND", b"")
    return [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *table, chunk(b"IDAT", zlib.compress(data)), end]


def samples_of(colour: int, depth: int) -> np.ndarray:
    return np.random.default_rng(depth).integers(
        0, min(2**depth, 85 if colour == 3 else 1 << 16), (*SHAPE, CHANNELS[colour])
    )


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour", "depth"), DEPTHS)
def test_every_kind_is_what_pillow_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: int, depth: int, interlaced: bool
) -> None:
    samples, path = samples_of(colour, depth), tmp_path / "a.png"
    for filter_type in range(5):
        path.write_bytes(b"".join(png(samples, colour, depth, filter_type=filter_type, interlaced=interlaced)))
        for label in (True, False):
            array = pictures.read_picture(path, label=label).array
            with monkeypatch.context() as patch:
                patch.setattr(pictures, "_is_plain_grey", lambda path: False)
                expected = pictures.read_picture(path, label=label).array
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)
        if colour == 0 and depth >= 8:
            np.testing.assert_array_equal(array[0], samples[..., 0])


def test_only_grey_of_8_and_16_bits_that_says_no_more_goes_through_itk(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for colour, depth in DEPTHS:
        path.write_bytes(b"".join(png(samples_of(colour, depth), colour, depth)))
        assert pictures._is_plain_grey(path) == ((colour, depth) in ((0, 8), (0, 16)))
    for depth in (8, 16):
        samples = samples_of(0, depth)
        first, header, data, end = png(samples, 0, depth)
        more = {b"tRNS": b"\0\7", b"sBIT": b"\5", b"gAMA": b"\0\0\x55\xf0", b"tEXt": b"Comment\0label"}
        for kind, content in more.items():
            path.write_bytes(first + header + chunk(kind, content) + data + end)
            assert pictures._is_plain_grey(path) == (kind in (b"gAMA", b"tEXt"))
            np.testing.assert_array_equal(read_image(path, channel_axis=False).array[0], samples[..., 0])
        path.write_bytes(first + header + chunk(b"iCCP", b"x\0\0" + bytes(1 << 16)) + data + end)
        assert not pictures._is_plain_grey(path)
    Pillow.fromarray(np.zeros((3, 3), np.uint8)).save(path, format="JPEG")  # its name lies
    assert not pictures._is_plain_grey(path)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_damaged_label_is_refused(tmp_path: Path, depth: int) -> None:
    samples = samples_of(0, depth)
    first, header, data, end = png(samples, 0, depth)
    taller = png(np.concatenate((samples, samples)), 0, depth)[1]
    for damaged in (
        first + header + data[:-20],  # cut off
        first + header + data,  # without its end
        first + header + data[:-1] + bytes([data[-1] ^ 1]) + end,  # a wrong checksum
        first + taller + data + end,  # half of its rows
        first + header + end,
        first + header,
        b"",
    ):
        (tmp_path / "a.png").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.png: unreadable image"):
            read_image(tmp_path / "a.png", channel_axis=False)
