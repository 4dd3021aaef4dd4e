"""Files that unpack to, or claim, more than a limit or the memory: a message, in no time, and a limit that can rise."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from medseg.bundle.compile import compile_evaluation, compile_inference, compile_training
from medseg.bundle.facts import config_dataset, describe_data, reading_as
from medseg.core.errors import ConfigError, DataError
from medseg.core.machine import Memory, machine_memory
from medseg.data.files import limits
from medseg.data.files.images import read_image
from medseg.data.files.reading import ReadingRules, reading
from medseg.data.training.apply import apply
from medseg.data.training.transforms import preprocessing
from medseg.engine.evaluator import CaseDataset, Failure
from tests.tiny import tiny_config

Set = Callable[..., None]


def png(width: int, height: int, colour: int) -> bytes:
    """The beginning of a PNG of 8 bits; colour 0: grey, 2: RGB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def nifti(shape: tuple[int, ...]) -> bytes:
    """A header that claims a shape of float64, and a few voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header.binaryblock + bytes(4 + 800)


def tiff(width: int, height: int) -> bytes:
    """A TIFF whose tags claim a size."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 200), (277, 1), (278, height), (279, 100)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)).ljust(300, b"\0")


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI IiiHHIIiiII", 154, 0, 0, 54, 40, width, height, 1, 24, 0, 100, 0, 0, 0, 0)
        + bytes(100)
    )


MHA = "ObjectType = Image\nNDims = 3\nDimSize = {0} {0} {0}\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
NRRD = "NRRD0004\ntype: float\ndimension: 3\nsizes: {0} {0} {0}\nencoding: raw\nendian: little\n\n"
CLAIMS = {
    "grey.png": png(60_000, 60_000, 0),
    "rgb.png": png(60_000, 60_000, 2),
    "a.bmp": bmp(60_000, 60_000),
    "a.tif": tiff(60_000, 60_000),
    "a.nii": nifti((3000, 3000, 3000)),
    "a.nii.gz": gzip.compress(nifti((3000, 3000, 3000))),
    "a.mha": MHA.format(3000).encode() + bytes(100),
    "a.nrrd": NRRD.format(3000).encode() + bytes(100),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_size_that_a_header_claims_is_not_believed(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(CLAIMS[name])
    began = time.process_time()
    with pytest.raises(
        DataError, match=r"by its header: the limit is [\d]+ (GiB|megapixels)\n.*raise largest_"
    ) as caught:
        read_image(file)
    assert time.process_time() - began < 1
    assert str(file) in str(caught.value)


def test_a_bomb_is_not_unpacked_whatever_it_says_of_its_size(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(bytes(2**26)))
    for said in (2**26, 100):
        content[-4:] = struct.pack("<I", said)
        (tmp_path / "bomb.nii.gz").write_bytes(content)
        with (
            reading(ReadingRules(largest_file_gib=0.01)),
            pytest.raises(DataError, match=r"unpacks to more than 10.2 MiB: the limit is 0.01 GiB"),
        ):
            read_image(tmp_path / "bomb.nii.gz")


def written(folder: Path) -> list[Path]:
    """A small image of each kind."""
    values = np.arange(400, dtype=np.uint8).reshape(20, 20)
    nibabel.save(nibabel.Nifti1Image(values[..., None].repeat(4, 2), np.eye(4)), folder / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values[..., None].repeat(4, 2), np.eye(4)), folder / "a.nii")
    Pillow.fromarray(values).save(folder / "grey.png")
    Pillow.fromarray(values).convert("RGB").save(folder / "rgb.png")
    Pillow.fromarray(values).save(folder / "a.jpg")
    tifffile.imwrite(folder / "a.tif", values)
    return sorted(folder.iterdir())


def test_a_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in written(tmp_path):
        monkeypatch.setitem(limits.DEFAULTS, limits.FILE, 1e-7)  # 107 bytes
        monkeypatch.setitem(limits.DEFAULTS, limits.PICTURE, 3e-4)  # 300 pixels
        with pytest.raises(DataError, match="the limit is"):
            read_image(file)
        with reading(ReadingRules(largest_file_gib=1, largest_picture_mp=1)):
            assert read_image(file).shape[:2] == (20, 20)


def test_who_starts_medseg_may_raise_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.FILE, "20")
    assert limits.limit(limits.FILE) == 20
    with reading(ReadingRules(largest_file_gib=3)):
        assert (limits.limit(limits.FILE), limits.limit(limits.PICTURE)) == (3, 1000)
    for text in ("much", "0", "-1", "nan"):
        monkeypatch.setenv(limits.PICTURE, text)
        with pytest.raises(ConfigError, match=f"{limits.PICTURE}: '{text}' is no number above 0"):
            limits.limit(limits.PICTURE)


def test_pillows_own_limit_is_not_asked_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 10)
    written(tmp_path)
    for name in ("rgb.png", "a.jpg"):
        assert read_image(tmp_path / name).shape == (20, 20)
    assert Pillow.MAX_IMAGE_PIXELS == 10


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose memory is used up but for 1 kB."""
    monkeypatch.setattr(limits, "machine_memory", lambda: Memory(2**34, 1000))
    monkeypatch.setattr(limits, "SMALL", 0)


def test_an_image_that_memory_does_not_hold(full: None, tmp_path: Path) -> None:
    for file in written(tmp_path):
        if file.suffix not in (".png", ".jpg", ".tif"):
            with pytest.raises(DataError, match=r"1e\+03 B of memory (are free|that are free)"):
                read_image(file)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.png", "a.tif", "a.nrrd", "a.mha"])
def test_what_is_no_file_is_not_waited_for(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "device":
        os.symlink("/dev/zero", name)
    else:
        opened = socket.socket(socket.AF_UNIX)
        opened.bind(name)
        opened.close()
    with pytest.raises(DataError, match=rf"^{name}: is no file but a pipe or a device\n    -> "):
        read_image(name)


def test_what_would_be_resampled_to_more_than_there_is(tmp_path: Path) -> None:
    """One voxel a kilometre, as a header with the wrong unit says it."""
    file = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.diag([1e6, 1e6, 1e6, 1])), file)
    steps = preprocessing(keys=["image"], spacing_mm=[1.0, None, 1.0])
    with pytest.raises(DataError, match=r"a: [\d.e+]+ GiB to resample it to 1 x 1e\+06 x 1 mm, but .* are free"):
        apply(steps, {"image": str(file)})
    [failure] = CaseDataset([{"image": str(file)}], steps)
    assert isinstance(failure, Failure)
    assert "to resample it" in failure.reason


def test_a_look_at_the_memory_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.nii.gz"
    values = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2, 3, 1])), file)
    steps = preprocessing(keys=["image"], spacing_mm=[1.0, 1.5, 1.0])
    looked, plain = apply(steps, {"image": str(file)}), steps({"image": str(file)})
    assert torch.equal(looked["image"].as_tensor(), plain["image"].as_tensor())
    assert torch.equal(looked["image"].affine, plain["image"].affine)
    assert looked.keys() == plain.keys()


def test_what_a_config_allows_holds_for_its_data_and_in_its_bundles(tiny_msd: Callable[..., Path]) -> None:
    plain = tiny_config(tiny_msd(cases=2))
    larger = tiny_config(Path(str(plain.data.root)), data__largest_file_gib=33.0)
    facts = describe_data(plain)
    for compiler in (compile_training, compile_evaluation, compile_inference):
        for config, said in ((larger, {"largest_file_gib": 33.0}), (plain, {})):
            begins = compiler(config, facts=facts, bundle_root=".")["initialize"]
            assert begins[0].pop("_target_").endswith("reading.read_as")
            assert begins[0] == said
    with reading_as(larger):
        assert limits.limit(limits.FILE) == 33
        config_dataset(plain)
        assert limits.limit(limits.FILE) == 33
    config_dataset(larger)
    assert limits.limit(limits.FILE) == 16


def test_what_is_left_to_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 900 kB\n",
        "/proc/self/cgroup": "4:memory:/part\n3:cpu:/\n0::/part\n",
        "/sys/fs/cgroup/part/memory.max": "500000",
        "/sys/fs/cgroup/part/memory.current": "300000",
        "/sys/fs/cgroup/part/memory.stat": "anon 1\ninactive_file 50000\nactive_file 20000\n",
        "/sys/fs/cgroup/memory.max": "max",
    }

    def read(path: Path, **_: object) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    assert machine_memory().free == 270_000
    files |= {
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "400000",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes": "300000",
        "/sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 40000\ntotal_active_file 30000\n",
    }
    assert machine_memory().free == 170_000
    del files["/proc/self/cgroup"]
    assert machine_memory().free == 900 * 1024
