"""TIFF of every compression, bit depth, photometric interpretation and orientation: as Pillow or ITK reads it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK
import tifffile
from PIL import Image as Pillow

from medseg.data.files.images import read_image
from tests.corpus.pictures import (
    COLOURS,
    GREY,
    MASK,
    RANDOM,
    TURNS,
    above_the_limit,
    label_is,
    of_few_bits,
    packed,
    save,
    shown,
    steps,
)
from tests.corpus.situation import Reading, Subjects, read, refused, without


def grey_tiff(path: Path, values: np.ndarray, bits: int, photometric: int = 1, turn: int = 1) -> Path:
    """An uncompressed TIFF of one strip; photometric 0: 0 is white, 1: 0 is black, 3: a palette of greens."""
    data = packed(values, bits)
    data += b"\0" * (len(data) % 2)
    numbers = {256: values.shape[1], 257: len(values), 258: bits, 259: 1, 262: photometric, 274: turn, 277: 1}
    numbers |= {278: len(values)}
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in numbers.items()]
    entries += [struct.pack("<HHII", 273, 4, 1, 8), struct.pack("<HHII", 279, 4, 1, len(data))]
    table = b""
    if photometric == 3:
        colours = np.zeros((3, 2**bits), "<u2")
        colours[1] = np.arange(2**bits) * 257
        table = colours.tobytes()
        place = 8 + len(data) + 2 + 12 * (len(entries) + 1) + 4
        entries.append(struct.pack("<HHII", 320, 3, colours.size, place))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + table)
    return path


@read(__name__)
def tiff_turned_by_its_tag(folder: Path) -> Subjects:
    for turn in TURNS:
        for name, array in (("grey", GREY), ("colours", COLOURS)):
            turned_one = save(folder / f"{name}{turn}_lzw.tif", array, compression="tiff_lzw", tiffinfo={274: turn})
            expected = shown(turned_one)
            path = folder / f"{name}{turn}.tif"
            photometric = "rgb" if array.ndim == 3 else "minisblack"
            tifffile.imwrite(path, array, photometric=photometric, extratags=[(274, 3, 1, turn, True)])
            yield Reading(turned_one, expected)
            yield Reading(path, expected)
        mask, seen = folder / f"grey{turn}.tif", shown(folder / f"grey{turn}_lzw.tif")[0]
        yield lambda mask=mask, seen=seen: label_is(mask, seen)


@read(__name__)
def tiff_of_6_channels_turned_by_its_tag(folder: Path) -> Subjects:
    planes = RANDOM.integers(0, 65536, (6, 5, 7), dtype=np.uint16)
    tifffile.imwrite(
        folder / "a.tif", planes, photometric="minisblack", planarconfig="separate", extratags=[(274, 3, 1, 8, True)]
    )
    yield Reading(folder / "a.tif", np.rot90(planes, 1, axes=(1, 2)))


@read(__name__)
def grey_tiff_of_few_bits(folder: Path) -> Subjects:
    yield from of_few_bits(folder, ".tif", grey_tiff)


@read(__name__)
def tiff_in_which_0_is_white(folder: Path) -> Subjects:
    """An image is as it is shown; a label has its values, but of one bit, which a fax has, white is 1."""
    for bits in (1, 2, 4, 8):
        path = grey_tiff(folder / f"{bits}.tif", steps(min(bits, 4)), bits, photometric=0)
        with Pillow.open(path) as picture:
            yield Reading(path, np.asarray(picture.convert("L")))
        stored = 1 - steps(1) if bits == 1 else steps(min(bits, 4))
        yield lambda path=path, stored=stored: label_is(path, stored)


@read(__name__)
def fax_tiff(folder: Path) -> Subjects:
    path = save(folder / "a.tif", MASK > 1, compression="group4")
    yield Reading(path, (MASK > 1) * 255)
    yield lambda: label_is(path, MASK > 1)


@read(__name__)
def palette_tiff(folder: Path) -> Subjects:
    for bits in (4, 8):
        path = grey_tiff(folder / f"{bits}.tif", steps(4), bits, photometric=3)
        with Pillow.open(path) as picture:
            yield Reading(path, np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
        yield lambda path=path: label_is(path, steps(4))


def every_compression(folder: Path, array: np.ndarray) -> Iterator[Path]:
    for name in ("raw", "packbits", "tiff_deflate", "tiff_adobe_deflate", "tiff_lzw", "lzma", "zstd"):
        yield save(folder / f"{name}.tif", array, compression=name)


@read(__name__)
def tiff_of_every_compression(folder: Path) -> Subjects:
    for path in every_compression(folder / "colours", COLOURS):
        yield Reading(path, COLOURS.transpose(2, 0, 1))
    for path in every_compression(folder / "grey", MASK):
        yield Reading(path, MASK)
        yield lambda path=path: label_is(path, MASK)


@read(__name__)
def tiff_of_every_compression_and_more_than_8_bits(folder: Path) -> Subjects:
    for name, array in (("deep", GREY.astype(np.uint16) * 200), ("real", GREY.astype(np.float32) / 7)):
        for path in every_compression(folder / name, array):
            yield Reading(path, array)


@read(__name__)
def tiff_with_jpeg_inside(folder: Path) -> Subjects:
    for name, array in (("colours", COLOURS), ("grey", GREY)):
        path = save(folder / f"{name}.tif", array, compression="jpeg")
        yield Reading(path, shown(path))


@read(__name__)
def lzw_tiff_of_16_bits_a_colour(folder: Path) -> Subjects:
    """Pillow would keep 8 of them."""
    deep = RANDOM.integers(0, 65536, (12, 20, 3), dtype=np.uint16)
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(folder / "a.tif"))
    writer.UseCompressionOn()
    writer.SetCompressor("LZW")
    writer.Execute(SimpleITK.GetImageFromArray(deep, isVector=True))
    with tifffile.TiffFile(folder / "a.tif") as file:
        assert file.pages[0].compression == tifffile.COMPRESSION.LZW
    yield Reading(folder / "a.tif", deep.transpose(2, 0, 1))


@read(__name__)
def lzw_tiff_of_several_pages(folder: Path) -> Subjects:
    first, *more = (Pillow.fromarray(GREY // (page + 1)) for page in range(4))
    first.save(folder / "a.tif", save_all=True, append_images=more, compression="tiff_lzw")
    yield Reading(folder / "a.tif", np.stack([GREY // (page + 1) for page in range(4)]))


@read(__name__)
def lzw_tiff_of_slices(folder: Path) -> Subjects:
    first, *more = (Pillow.fromarray(MASK * (page + 1)) for page in range(4))
    first.save(folder / "a.tif", save_all=True, append_images=more, compression="tiff_lzw")
    (folder / "a.json").write_text('{"spacing": [3, 1, 1]}')
    yield Reading(folder / "a.tif", np.stack([MASK * (page + 1) for page in range(4)]).T)


@read(__name__)
def cmyk_is_colours(folder: Path) -> Subjects:
    for ending in ("jpg", "tif"):
        Pillow.fromarray(COLOURS).convert("CMYK").save(folder / f"a.{ending}")
        with Pillow.open(folder / f"a.{ending}") as picture:
            yield Reading(folder / f"a.{ending}", np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
    turned, upright = (folder / f"{name}.tif" for name in ("turned", "upright"))
    inks = np.asarray(Pillow.fromarray(COLOURS).convert("CMYK"))
    tifffile.imwrite(turned, np.rot90(inks), photometric="separated", extratags=[(274, 3, 1, 6, True)])
    tifffile.imwrite(upright, inks, photometric="separated")
    yield Reading(turned, read_image(upright).array)


@refused(__name__, "big.tif", "megapixels", "largest_picture_mp")
def tiff_above_the_limit(folder: Path) -> Subjects:
    yield from above_the_limit(folder / "big.tif")


without(__name__, "medseg.data.files.tiff._orientation", lambda _: 1)
without(__name__, "medseg.data.files.tiff._inverted", lambda array, _: array)
without(__name__, "medseg.data.files.tiff.COLOURS", ())
without(__name__, "medseg.data.files.tiff.DECODER", "nothing of that name")
without(__name__, "medseg.data.files.tiff.check_pixels", lambda *_: None)
