"""DICOM files that are damaged, or made to be: a message that repeats nothing of them, and soon."""

from __future__ import annotations

import logging
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg.core.errors import DataError, Problem
from medseg.data.files.dicom import header as of
from medseg.data.files.images import read_image
from tests.dicom_files import as_pydicom_writes, image_tags, mosaic_tags, write, write_enhanced

VOLUME = np.random.default_rng(0).integers(-1000, 1000, (6, 10, 12))


def test_damaged_bytes_are_a_message_that_repeats_nothing(tmp_path: Path) -> None:
    """Each byte of a header that is another one, and each length to which a file may be cut: read, or a DataError."""
    whole = write_enhanced(tmp_path / "a" / "0.dcm", VOLUME[:2].astype(np.int16), [(0, 0, 0), (0, 0, 2)])
    mosaic = write(tmp_path / "b" / "0.dcm", mosaic_tags(VOLUME[:3].astype(np.uint16), description="Doe^Jane"))
    random = np.random.default_rng(0)
    for file in (whole, mosaic, as_pydicom_writes(whole, True), as_pydicom_writes(mosaic, False)):
        content = file.read_bytes()
        for number in range(100):
            damaged = bytearray(content)
            if number % 4:
                for place in random.integers(120, len(content) - VOLUME[:2].nbytes // 4, 1 + number % 3):
                    damaged[place] = random.choice([0, 1, 0x20, 0x39, 0x5C, 0x7F, 0xFE, 0xFF, random.integers(256)])
            else:
                del damaged[random.integers(100, len(content)) :]
            file.write_bytes(bytes(damaged))
            problems = problems_of(file.parent)
            assert "Doe" not in str(problems)
            assert all(str(file.parent) in problem.where and problem.remedy for problem in problems)


@pytest.mark.parametrize("place", ["outside", "inside"])
def test_what_pydicom_warns_of_is_heard_by_nobody(tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    """A character set that is none, which it quotes; wrong texts where numbers are."""
    file = write_enhanced(tmp_path / "a" / "0.dcm", VOLUME[:2].astype(np.int16), [(0, 0, 0), (0, 0, 2)])
    file = as_pydicom_writes(file, False)
    wrong = struct.pack("<HH2sH", 8, 5, b"CS", 16) + b"ISO_IR  Doe^Jane"
    mark = struct.pack("<HH", 8, 8) if place == "outside" else struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    content = file.read_bytes()
    at = content.index(mark) + (8 if place == "inside" else 0)
    file.write_bytes(content[:at] + wrong + content[at:])
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        pydicom.dcmread(file)
        assert "Doe" in str([one.message for one in warned]), "pydicom quotes it"
        warned.clear()
        caplog.clear()
        assert np.array_equal(read_image(file.parent).array[0], VOLUME[:2].T)
    assert not any("Doe" in str(one.message) for one in warned)
    assert "Doe" not in caplog.text


def test_what_others_warn_of_once_is_said_once(tmp_path: Path) -> None:
    write(tmp_path / "0.dcm", image_tags(VOLUME[0].astype(np.int16)))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        for _ in range(3):
            read_image(tmp_path)
            warnings.warn("once", stacklevel=1)
    assert [str(one.message) for one in warned] == ["once"]


SEQUENCE, ITEM = struct.pack("<HH2sxxI", 8, 0x1111, b"SQ", 0xFFFFFFFF), struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
FRAMES = struct.pack("<HH2sxxI", 0x5200, 0x9230, b"SQ", 80_000)
ICON = struct.pack("<HH2sxxI", 0x7FE1, 0x10, b"OB", 0xFFFFFFFF)


def with_more(folder: Path, content: bytes) -> Path:
    """A file whose header goes on like this, and that has no pixels."""
    file = write(folder / "0.dcm", image_tags(VOLUME[0].astype(np.int16), more={0x7FE00010: None}))
    file.write_bytes(file.read_bytes() + content)
    return folder


@pytest.mark.parametrize(
    "content",
    [(SEQUENCE + ITEM) * 10_000, SEQUENCE + ITEM, SEQUENCE, SEQUENCE + ITEM[:5], ICON + bytes(80), b"\x08", FRAMES],
    ids=["deep", "item", "sequence", "half an item", "fragments", "half a tag", "no content"],
)
def test_a_header_that_is_cut_off_is_refused(tmp_path: Path, content: bytes) -> None:
    (problem,) = problems_of(with_more(tmp_path, content))
    assert (problem.where, problem.what) == (str(tmp_path / "0.dcm"), "unreadable DICOM file")


@pytest.mark.parametrize(
    ("limit", "value", "content"),
    [
        ("MOST_READS", 9_999, SEQUENCE + bytes(80_000)),
        ("MOST_READS", 9_999, FRAMES + bytes(80_000)),
        ("MOST_BYTES", 99_999, ICON + bytes(200_000)),
    ],
    ids=["items", "items of a length", "fragments"],
)
def test_reading_a_header_ends(
    tmp_path: Path, limit: str, value: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, plain = [], of._Bounded.read
    monkeypatch.setattr(of._Bounded, "read", lambda self, count: reads.append(count) or plain(self, count))
    monkeypatch.setattr(of, limit, value)
    (problem,) = problems_of(with_more(tmp_path, content))
    assert (problem.where, problem.what) == (str(tmp_path / "0.dcm"), "unreadable DICOM file")
    assert len(reads) < 10_100
    assert sum(reads) < 200_000


def test_pixels_that_are_not_compressed_as_is_said_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "0.dcm", image_tags(VOLUME[0].astype(np.int16)), syntax="1.2.840.10008.1.2.4.90")
    (problem,) = problems_of(tmp_path)
    assert problem.what == "has pixels (JPEG 2000) that cannot be decoded"


def problems_of(path: Path) -> tuple[Problem, ...]:
    try:
        read_image(path)
    except DataError as error:
        return error.problems
    return ()
