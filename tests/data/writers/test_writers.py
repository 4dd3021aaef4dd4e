"""Writers by name: what they take, how they name files, and that the mask lies on its image."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from medseg.core.errors import ConfigError, DataError
from medseg.core.files import replace_file
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.files.images import label_values, read_image
from medseg.data.writers import WRITERS
from medseg.data.writers.base import own_writer, writer_of, writers_of
from medseg.engine.outputs import mask_paths, pending_cases
from medseg.engine.sidecar import read_sidecar, sidecar_path

LABELS = Labels({"background": 0, "tumour": 3})


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 1], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), affine), tmp_path / "scan.nii.gz")
    Pillow.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "frame.jpg")
    return {"volume": tmp_path / "scan.nii.gz", "picture": tmp_path / "frame.jpg"}


@pytest.mark.parametrize("name", WRITERS.own)
def test_a_mask_lies_on_its_image(name: str, images: dict[str, Path], tmp_path: Path) -> None:
    writer = writer_of(name)
    taken = [image for image in images.values() if writer.takes(image)]
    assert taken, "every writer is for something"
    for image in taken:
        shape = read_image(image).shape
        mask = (3 * (np.arange(np.prod(shape)).reshape(shape) % 2)).astype(np.uint8)
        path = writer.file(tmp_path / "out", "case.v1")
        assert path.name.startswith("case.v1." if name != "bids" else "sub-caseZ2Ev1_dseg.")
        writer.write_mask(path, mask, like=image, labels=LABELS)
        written = read_image(path, channel_axis=False)
        assert np.array_equal(label_values(written)[0], mask)
        assert np.allclose(written.affine, read_image(image).affine)


@pytest.mark.parametrize("name", WRITERS.own)
def test_maps_are_written_by_whoever_says_so(name: str, images: dict[str, Path], tmp_path: Path) -> None:
    writer = writer_of(name)
    for image in filter(writer.takes, images.values()):
        values = np.full(read_image(image).shape, 50, np.int16)
        if not writer.maps:
            with pytest.raises(NotImplementedError):
                writer.write_map(tmp_path / "map", values, 100, like=image)
            continue
        path = writer.file(tmp_path, "map")
        writer.write_map(path, values, 100, like=image)
        assert read_image(path).array.max() in (pytest.approx(0.5, abs=0.01), 127, 128)


def test_each_kind_of_image_has_a_format_of_its_own(images: dict[str, Path]) -> None:
    assert own_writer(images["volume"]) is writer_of("nifti")
    assert own_writer(images["picture"]) is writer_of("png")
    assert all(own_writer(image).maps for image in images.values())
    assert writers_of(images["volume"], ["auto", "nrrd"]) == [writer_of("nifti"), writer_of("nrrd")]
    with pytest.raises(DataError, match=r"frame.jpg: what is found in it cannot be written as nifti\n    -> .*png"):
        writers_of(images["picture"], ["nifti"])
    with pytest.raises(ConfigError, match="did you mean 'nifti'"):
        writer_of("nifty")


def test_a_package_brings_a_writer(images: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "raw_writer.py").write_text(
        "from medseg.data.writers.base import Writer\n"
        "class RawWriter(Writer):\n"
        "    def takes(self, image): return True\n"
        "    def file(self, folder, name): return folder / f'{name}.raw'\n"
        "    def write_mask(self, path, mask, *, like, labels): path.write_bytes(mask.tobytes())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = metadata.EntryPoint("raw", "raw_writer:RawWriter", "medseg.writers")
    monkeypatch.setattr(
        metadata,
        "entry_points",
        lambda group: metadata.EntryPoints([entry] if group == "medseg.writers" else []),
    )
    assert mask_paths("out", "a", images["volume"], ["raw", "auto"]) == [Path("out/a.raw"), Path("out/a.nii.gz")]


def test_a_case_is_pending_until_every_format_is_there(images: dict[str, Path], tmp_path: Path) -> None:
    cases, out = [Case("scan", (str(images["volume"]),))], tmp_path / "out"
    out.mkdir()
    (out / "scan.nii.gz").touch()
    replace_file(sidecar_path(out, "scan"), '{"case": "scan", "model": {}}')
    assert pending_cases(cases, str(out)) == cases  # an empty file is no mask
    (out / "scan.nii.gz").write_bytes(b"a mask")
    assert pending_cases(cases, str(out)) == []
    assert pending_cases(cases, str(out), formats=["nifti", "nrrd"]) == cases


def test_an_older_sidecar_stands_beside_the_mask(tmp_path: Path) -> None:
    older, newer = ({"case": "a", "model": {}, "volume_ml": {"tumour": ml}} for ml in (1, 2))
    (tmp_path / "a.json").write_text(json.dumps(older))
    assert read_sidecar(tmp_path, "a") == older
    replace_file(sidecar_path(tmp_path, "a"), json.dumps(newer))
    assert read_sidecar(tmp_path, "a") == newer
    sidecar_path(tmp_path, "b").write_text("{")
    assert read_sidecar(tmp_path, "b") == {}
