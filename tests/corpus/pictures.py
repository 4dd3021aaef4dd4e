"""Pictures as cameras, scanners and editors write them: images as Pillow shows them, labels as they are stored."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Pillow
from PIL import ImageOps

from medseg.core.errors import DataError
from medseg.data.cases.dataset import find_dataset
from medseg.data.files.frames import read_frame, write_frame
from medseg.data.files.images import grid_difference, read_image, write_mask
from medseg.data.files.reading import ReadingRules, reading
from medseg.data.files.signed import is_signed
from tests.corpus.situation import Reading, Subjects, read, refused, without

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]
MASK = RANDOM.integers(0, 4, (12, 20), dtype=np.uint8)
TURNS = range(1, 9)


def save(path: Path, array: np.ndarray, turn: int | None = None, **options: object) -> Path:
    if turn is not None:
        exif = Pillow.Exif()
        exif[274] = turn
        options["exif"] = exif
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array).save(path, **options)
    return path


def shown(path: Path) -> np.ndarray:
    """(C, rows, columns), as a viewer shows the file."""
    with Pillow.open(path) as picture:
        array = np.asarray(ImageOps.exif_transpose(picture))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def label_is(path: Path, values: np.ndarray) -> None:
    np.testing.assert_array_equal(read_image(path, channel_axis=False).array[0], values)


def png(path: Path, values: np.ndarray, bits: int, *parts: bytes, behind: tuple[bytes, ...] = ()) -> Path:
    """A grey PNG of 1 to 8 bits with further chunks before or behind its pixels."""
    raw = packed(values, bits)
    rows = len(values)
    lines = b"".join(b"\0" + raw[len(raw) // rows * row : len(raw) // rows * (row + 1)] for row in range(rows))
    head = struct.pack(">IIBBBBB", values.shape[1], rows, bits, 0, 0, 0, 0)
    chunks = (_chunk(b"IHDR", head), *parts, _chunk(b"IDAT", zlib.compress(lines)), *behind, _chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values: np.ndarray, bits: int) -> bytes:
    digits = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(len(values), -1)
    return np.packbits(digits, axis=1).tobytes()


def steps(bits: int, columns: int = 16) -> np.ndarray:
    return np.tile(np.arange(2**bits, dtype=np.uint8), (4, columns // 2**bits))


def of_few_bits(folder: Path, ending: str, write: Callable[[Path, np.ndarray, int], Path]) -> Subjects:
    """Grey of 1, 2 and 4 bits: as an image from 0 to 255, as a label the values."""
    for bits in (1, 2, 4):
        path = write(folder / f"{bits}{ending}", steps(bits), bits)
        yield Reading(path, steps(bits).astype(int) * 255 // (2**bits - 1))
        yield lambda path=path, bits=bits: label_is(path, steps(bits))


@read(__name__)
def jpeg_turned_by_exif(folder: Path) -> Subjects:
    for turn in TURNS:
        path = save(folder / f"{turn}.jpg", COLOURS, turn, quality=95)
        yield Reading(path, shown(path))


@read(__name__)
def webp_turned_by_exif(folder: Path) -> Subjects:
    for turn in TURNS:
        path = save(folder / f"{turn}.webp", COLOURS, turn, lossless=True)
        yield Reading(path, shown(path))


@read(__name__)
def colour_png_turned_by_exif(folder: Path) -> Subjects:
    for turn in TURNS:
        path = save(folder / f"{turn}.png", COLOURS, turn)
        yield Reading(path, shown(path))


@read(__name__)
def masks_are_turned_as_images_are(folder: Path) -> Subjects:
    """A grey PNG has its EXIF before or behind its pixels; one of a palette is turned too."""
    exif = Pillow.Exif()
    for turn in TURNS:
        exif[274] = turn
        path = save(folder / f"{turn}.png", MASK, turn)
        yield lambda path=path: label_is(path, shown(path)[0])
        late = png(folder / f"late{turn}.png", MASK, 8, behind=(_chunk(b"eXIf", exif.tobytes()[6:]),))
        yield lambda late=late, path=path: label_is(late, shown(path)[0])
        indexed = Pillow.frombytes("P", MASK.shape[::-1], MASK.tobytes())
        indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        indexed.save(folder / f"p{turn}.png", exif=exif)
        yield lambda turn=turn, path=path: label_is(folder / f"p{turn}.png", shown(path)[0])


@read(__name__)
def png_of_16_bits_turned_by_exif(folder: Path) -> Subjects:
    deep = GREY.astype(np.uint16) * 257
    path = save(folder / "grey.png", deep, 6)
    yield Reading(path, np.rot90(deep, -1))


@read(__name__)
def damaged_exif_turns_nothing(folder: Path) -> Subjects:
    for number, content in enumerate((b"Exif\0\0II*\0", b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")):
        path = save(folder / f"{number}.jpg", COLOURS, exif=content, quality=95)
        with Pillow.open(path) as picture:
            yield Reading(path, np.asarray(picture).transpose(2, 0, 1))


@read(__name__)
def a_mask_lies_on_the_turned_picture(folder: Path) -> Subjects:
    path = save(folder / "a.jpg", COLOURS, 6)
    tall = np.rot90(MASK, -1)

    def written() -> None:
        write_mask(folder / "mask.png", tall, like=path)
        np.testing.assert_array_equal(shown(folder / "mask.png")[0], tall)
        assert shown(path).shape[1:] == tall.shape

    yield written


@refused(__name__, "mask of shape")
def a_mask_of_the_stored_shape_is_not_written(folder: Path) -> Subjects:
    path = save(folder / "a.jpg", COLOURS, 6)

    def written() -> None:
        try:
            write_mask(folder / "mask.png", MASK, like=path)
        except ValueError as error:
            raise DataError(str(error)) from None

    yield written


@read(__name__)
def grey_png_of_few_bits(folder: Path) -> Subjects:
    yield from of_few_bits(folder, ".png", png)


@read(__name__)
def palette_of_two_colours(folder: Path) -> Subjects:
    indexed = Pillow.frombytes("P", MASK.shape[::-1], (MASK > 1).tobytes())
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    indexed.save(folder / "a.png", bits=1)
    yield lambda: label_is(folder / "a.png", MASK > 1)
    yield Reading(folder / "a.png", np.stack([(MASK < 2) * 255, 0 * MASK, (MASK > 1) * 255]))


@read(__name__)
def lossless_webp(folder: Path) -> Subjects:
    yield Reading(save(folder / "a.WEBP", COLOURS, lossless=True), COLOURS.transpose(2, 0, 1))


@refused(__name__, "a.webp", "WebP changes the values", "PNG")
def webp_as_a_label(folder: Path) -> Subjects:
    path = save(folder / "a.webp", MASK)
    yield lambda: read_image(path, channel_axis=False)


@refused(__name__, "big.png", "megapixels", "largest_picture_mp")
def grey_png_above_the_limit(folder: Path) -> Subjects:
    yield from above_the_limit(folder / "big.png")


@refused(__name__, "big.jpg", "megapixels", "largest_picture_mp")
def jpeg_above_the_limit(folder: Path) -> Subjects:
    yield from above_the_limit(folder / "big.jpg")


@refused(__name__, "big.webp", "megapixels", "largest_picture_mp")
def webp_above_the_limit(folder: Path) -> Subjects:
    yield from above_the_limit(folder / "big.webp")


def above_the_limit(path: Path, **options: object) -> Subjects:
    save(path, np.zeros((60, 50), np.uint8), **options)

    def tried() -> None:
        with reading(ReadingRules(largest_picture_mp=0.0029)):
            read_image(path)

    yield tried


@read(__name__)
def one_limit_for_all_that_is_opened(folder: Path) -> Subjects:
    """Pillow's own limit is a fifth of the default one: it is not asked, even of a picture that medseg has signed."""
    paths = [save(folder / f"a.{ending}", np.zeros((60, 50, 3), np.uint8)) for ending in ("png", "jpg", "bmp", "webp")]
    write_frame(folder / "signed.png", np.zeros((60, 50, 3), np.uint8))

    def tried() -> None:
        before, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, 100
        try:
            for path in paths:
                assert read_image(path).shape == (60, 50)
                assert read_frame(path).shape == (60, 50, 3)
            assert is_signed(folder / "signed.png")
        finally:
            Pillow.MAX_IMAGE_PIXELS = before

    yield tried


def frame_is(path: Path, colours: np.ndarray) -> None:
    np.testing.assert_array_equal(read_frame(path), colours)


@read(__name__)
def a_frame_is_what_training_sees(folder: Path) -> Subjects:
    for turn in TURNS:
        path = save(folder / f"{turn}.jpg", COLOURS, turn)
        yield lambda path=path: frame_is(path, shown(path).transpose(1, 2, 0))
    deep = save(folder / "deep.tif", GREY.astype(np.uint16) * 256 + 7, compression="tiff_lzw")
    yield lambda: frame_is(deep, np.repeat(GREY[..., None], 3, 2))
    few = png(folder / "few.png", steps(2), 2)
    yield lambda: frame_is(few, np.repeat(steps(2)[..., None] * 85, 3, 2))
    clear = save(folder / "clear.png", np.dstack([COLOURS, GREY]))
    yield lambda: frame_is(clear, COLOURS)


@refused(__name__, "a.tif", "no colours")
def a_frame_of_six_channels(folder: Path) -> Subjects:
    tifffile.imwrite(folder / "a.tif", np.zeros((6, 5, 7), np.uint8), photometric="minisblack", planarconfig="separate")
    yield lambda: read_frame(folder / "a.tif")


def data_set(root: Path, ending: str, turn: int | None, count: int = 3, **options: object) -> Path:
    """Pictures with an orientation and masks that were drawn on what a viewer shows."""
    for number in range(count):
        image = save(root / "images" / f"p{number}.{ending}", COLOURS, turn, **options)
        save(root / "labels" / f"p{number}.png", (shown(image)[0] > 127).astype(np.uint8))
    return root


def _is_healthy(root: Path) -> Callable[[], None]:
    def looked_at() -> None:
        dataset, problems = find_dataset(root)
        assert not problems
        assert len(dataset.cases) == 3
        for case in dataset.cases:
            image, label = case.read_image(), case.read_label()
            assert grid_difference(image, label) is None
            bright = image.array[0] > 127
            assert (bright == label.array[0]).mean() > 0.99

    return looked_at


@read(__name__)
def healthy_data_sets(folder: Path) -> Subjects:
    for ending in ("jpg", "JPG", "jpeg", "png", "tif", "tiff", "bmp", "webp", "WEBP"):
        yield _is_healthy(data_set(folder / ending, ending, None))
    for turn in (3, 6, 8):
        yield _is_healthy(data_set(folder / str(turn), "jpg", turn))
    yield _is_healthy(data_set(folder / "lzw", "tif", None, compression="tiff_lzw"))


without(__name__, "medseg.data.files.pixels.upright", lambda array, _: array)
without(__name__, "medseg.data.files.pixels.white", lambda _: 1)
without(__name__, "medseg.data.files.pictures._is_turned", lambda _: False)
without(__name__, "medseg.data.files.pictures.orientation", lambda _: 1)
without(__name__, "medseg.data.files.pixels.orientation", lambda _: 1)
without(__name__, "medseg.data.files.pictures.LOSSY", ())
without(__name__, "medseg.data.files.frames.MOST", 99)
without(__name__, "medseg.data.files.pixels.check_pixels", lambda *_: None)
