"""What tells the image of a mask from another one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import tifffile

from medseg.data.files.images import files_beside, read_image
from medseg.engine.origin import image_digest

VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def test_which_channel_is_missing_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.nii.gz"
    file.touch()
    found = [image_digest(images) for images in ([file], [file, None], [None, file], [file, file])]
    assert len(set(found)) == 4


def meta_image(folder: Path) -> tuple[Path, list[Path]]:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(folder / "a.mhd"))
    return folder / "a.mhd", [folder / "a.raw"]


def numbered_slices(folder: Path) -> tuple[Path, list[Path]]:
    return _slices(folder, "slice_%02d.raw 1 3 1")


def listed_slices(folder: Path) -> tuple[Path, list[Path]]:
    return _slices(folder, "LIST\nslice_01.raw\nslice_02.raw\nslice_03.raw")


def _slices(folder: Path, where: str) -> tuple[Path, list[Path]]:
    files = [folder / f"slice_0{number}.raw" for number in (1, 2, 3)]
    for file, values in zip(files, VOXELS, strict=True):
        file.write_bytes(values.tobytes())
    header = "ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_SHORT\nElementByteOrderMSB = False\n"
    (folder / "a.mhd").write_text(f"{header}ElementDataFile = {where}\n")
    return folder / "a.mhd", files


def detached_nrrd(folder: Path) -> tuple[Path, list[Path]]:
    (folder / "a.raw").write_bytes(VOXELS.tobytes())
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 4 3\nendian: little\nencoding: raw\n"
    (folder / "a.nrrd").write_text(f"{header}data file: a.raw\n")
    return folder / "a.nrrd", [folder / "a.raw"]


def tiff_volume(folder: Path) -> tuple[Path, list[Path]]:
    tifffile.imwrite(folder / "a.tif", VOXELS)
    (folder / "a.json").write_text(json.dumps({"spacing": [2.0, 1.0, 1.0]}))
    return folder / "a.tif", [folder / "a.json"]


@pytest.mark.parametrize("write", [meta_image, numbered_slices, listed_slices, detached_nrrd, tiff_volume])
def test_files_that_belong_to_an_image_count(write, tmp_path: Path) -> None:
    image, beside = write(tmp_path)
    assert np.array_equal(read_image(image).array, VOXELS.T[None])
    assert files_beside(image) == beside
    before = image_digest([str(image)])
    assert image_digest([image]) == before
    for file in (image, *beside):
        os.utime(file, (1, 1))
    assert image_digest([image]) == before, "a copy is the same image"
    content = beside[-1].read_bytes()
    beside[-1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(beside[-1], (1, 1))
    assert image_digest([image]) != before


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.nii.gz", "a.png"])
def test_a_file_that_holds_all_its_voxels_has_none_beside_it(name: str, tmp_path: Path) -> None:
    voxels = VOXELS[0].astype(np.uint8) if name.endswith(".png") else VOXELS
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(tmp_path / name))
    assert files_beside(tmp_path / name) == []
