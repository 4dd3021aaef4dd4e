"""Headers that end ITK's readers are refused before these see them; whatever a person would write is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from medseg.core.errors import DataError
from medseg.data.files.images import read_image

NDIMS = [b"-3", b"-1", b"0", b"11", b"100", b"2147483648", b"1e9", b"3.5", b"x", b"", b"3 4"]
LONG = [b"x" * 1000, b"labels: " + b'"mm" ' * 300, b"units: " + b'"mm" ' * 300, b"data file: " + b"x" * 3000,
        b"measurement frame: " + b"(1,0,0) " * 200, b"kinds: domain " + b"x" * 3000]  # fmt: skip
REMARKS = [b"# " + b"y" * 100_000, b"content: " + b"y" * 5000, b"x:=" + b"y" * 100_000, b"y" * 1030 + b":=x"]


@pytest.fixture
def image(tmp_path: Path) -> SimpleITK.Image:
    return SimpleITK.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))


def changed(image: SimpleITK.Image, path: Path, old: bytes, new: bytes) -> Path:
    SimpleITK.WriteImage(image, str(path))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize("number", NDIMS)
@pytest.mark.parametrize("ending", ["mha", "mhd"])
def test_a_metaimage_of_so_many_axes(image: SimpleITK.Image, tmp_path: Path, number: bytes, ending: str) -> None:
    file = changed(image, tmp_path / f"a.{ending}", b"NDims = 3", b"NDims = " + number)
    with pytest.raises(DataError, match="number of axes"):
        read_image(file)


@pytest.mark.parametrize("key", [b"Name", b"Other"])
def test_a_metaimage_with_a_line_without_end(image: SimpleITK.Image, tmp_path: Path, key: bytes) -> None:
    file = changed(image, tmp_path / "a.mha", b"NDims = 3", b"NDims = 3\n" + key + b" = " + b"x" * 600)
    with pytest.raises(DataError, match="line without end") as caught:
        read_image(file)
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("line", LONG, ids=range(len(LONG)))
def test_an_nrrd_with_a_line_without_end(image: SimpleITK.Image, tmp_path: Path, line: bytes) -> None:
    file = changed(image, tmp_path / "a.nrrd", b"kinds:", line + b"\nkinds:")
    with pytest.raises(DataError, match="line without end"):
        read_image(file)


@pytest.mark.parametrize("line", REMARKS, ids=range(len(REMARKS)))
def test_remarks_may_be_long(image: SimpleITK.Image, tmp_path: Path, line: bytes) -> None:
    file = changed(image, tmp_path / "a.nrrd", b"kinds:", line + b"\nkinds:")
    assert read_image(file).shape == (6, 5, 4)


def test_the_reader_is_that_of_the_content_or_there_is_none(image: SimpleITK.Image, tmp_path: Path) -> None:
    SimpleITK.WriteImage(image, str(tmp_path / "a.nrrd"))
    (tmp_path / "a.nrrd").rename(tmp_path / "a.mha")
    assert read_image(tmp_path / "a.mha").shape == (6, 5, 4)
    SimpleITK.WriteImage(image, str(tmp_path / "b.vtk"))
    (tmp_path / "b.vtk").rename(tmp_path / "b.nrrd")
    with pytest.raises(DataError, match="ITK cannot decode it"):
        read_image(tmp_path / "b.nrrd")
