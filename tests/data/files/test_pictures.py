"""Pictures and masks as files: every type comes back as it was written, and what is no label map is refused."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from medseg.config.cards import load_card
from medseg.core.errors import DataError
from medseg.data.files.images import label_values, read_image, write_mask
from medseg.data.files.pictures import palette
from medseg.data.training.transforms import preprocessing

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_rgb_comes_back(tmp_path: Path, ending: str) -> None:
    pixels = RANDOM.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / f"a{ending}")
    image = read_image(tmp_path / f"a{ending}")
    assert image.array.dtype == np.uint8
    np.testing.assert_array_equal(image.array, pixels.transpose(2, 0, 1))
    assert image.shape == (5, 7)


def test_jpeg_is_a_picture_but_no_label(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").array.shape == (3, 8, 8)
    with pytest.raises(DataError, match="JPEG changes the values"):
        read_image(tmp_path / "a.jpg", channel_axis=False)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_tiff_of_16_bits_and_many_channels(tmp_path: Path, channels: int, planes: str) -> None:
    pixels = RANDOM.integers(0, 65536, (channels, 5, 7), dtype=np.uint16)
    stored = pixels if planes == "separate" or channels == 1 else pixels.transpose(1, 2, 0)
    options = {} if channels == 1 else {"planarconfig": planes}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", **options)
    image = read_image(tmp_path / "a.tif")
    assert image.array.dtype == np.uint16
    np.testing.assert_array_equal(image.array, pixels)


def test_png_of_16_bits_a_colour_keeps_them(tmp_path: Path) -> None:
    import SimpleITK

    pixels = RANDOM.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.png"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, pixels.transpose(2, 0, 1))


def test_a_palette_is_indices_in_a_label_and_colours_in_an_image(tmp_path: Path) -> None:
    indices = RANDOM.integers(0, 3, (4, 6), dtype=np.uint8)
    picture = Pillow.frombytes("P", (6, 4), indices.tobytes())
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "a.png")
    label = read_image(tmp_path / "a.png", channel_axis=False)
    np.testing.assert_array_equal(label_values(label)[0], indices)
    red = read_image(tmp_path / "a.png").array[0]
    np.testing.assert_array_equal(red, np.where(indices == 1, 128, 0))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_every_picture_of_8_bits_can_be_given_to_a_network_for_rgb(tmp_path: Path, mode: str) -> None:
    drawn = Pillow.fromarray(RANDOM.integers(0, 256, (4, 6, 3), dtype=np.uint8)).convert(mode)
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    drawn.save(file)
    case = preprocessing(normalization="imagenet", spatial_dims=2, channels=3)({"image": str(file)})
    assert case["image"].dtype == torch.uint8
    with Pillow.open(file) as picture:
        expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(case["image"].numpy(), expected)


def test_a_mask_of_colours_is_refused(tmp_path: Path) -> None:
    Pillow.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="one number a pixel"):
        read_image(tmp_path / "a.png", channel_axis=False)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"a\.png.*unreadable"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(("top", "dtype"), [(10, np.uint8), (255, np.uint8), (3000, np.uint16)])
def test_a_mask_is_a_png_in_the_cards_colours(tmp_path: Path, top: int, dtype: type) -> None:
    Pillow.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "image.jpg")
    mask = RANDOM.integers(0, top + 1, (4, 6)).astype(np.int64)
    mask[0, 0] = top
    labels = load_card("camvid").labels
    write_mask(tmp_path / "mask.png", mask, like=tmp_path / "image.jpg", labels=labels)
    back = read_image(tmp_path / "mask.png", channel_axis=False).array[0]
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, mask)
    if top == 10:
        shown = np.asarray(Pillow.open(tmp_path / "mask.png").convert("RGB"))
        assert tuple(shown[0, 0]) == labels.colours["Bicyclist"]
    with pytest.raises(ValueError, match="shape"):
        write_mask(tmp_path / "mask.png", mask[:2], like=tmp_path / "image.jpg")


def test_the_palette_is_vocs(test_data: Path) -> None:
    with Pillow.open(next((test_data / "VOCdevkit_sample/VOC2012/SegmentationClass").glob("*.png"))) as picture:
        official = np.array(picture.getpalette(), np.uint8).reshape(-1, 3)
    np.testing.assert_array_equal(palette({})[: len(official)], official)
    assert palette({3: (1, 2, 3)})[3].tolist() == [1, 2, 3]


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    """Nobody writes into it, so reading would wait for ever."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    for name in ("a.png", "a.nii.gz", "a.nrrd", "a.tif"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match="is no file but a pipe"):
            read_image(tmp_path / name)


def test_nothing_of_a_damaged_header_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """tifffile quotes what it cannot read: with any byte of a header damaged that names a person."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.arange(24, dtype=np.uint16).reshape(4, 6), description="DOE^JANE", software="DOE^JANE")
    whole = path.read_bytes()
    for place in range(0, min(len(whole), 300), 2):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with contextlib.suppress(Exception):
            read_image(path)
    assert caplog.records == []
    for place in range(0, min(len(whole), 300), 2):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with contextlib.suppress(Exception), tifffile.TiffFile(path) as file:
            file.series[0].asarray()
    assert caplog.records, "it does log, for whoever asks it"
