"""No text of an image's header reaches what is written or printed, whatever the format and wherever it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import DataError, PartialFailure
from medseg.data.files.images import ENDINGS, read_image, write_map, write_mask
from medseg.workflows.check import check
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests import planted
from tests.conftest import draw
from tests.pictures import of_pairs, write_pairs
from tests.planted import IDENTIFIER, NAME, TEXT, named, naming
from tests.tiny import tiny_config

Write = Callable[[Path, np.ndarray], object]
CASES = 3


def volumes(root: Path, ending: str, write: Write, write_label: Write | None = None) -> Path:
    """nnU-Net raw, and in `more` one image, and one that is cut off."""
    for folder in ("imagesTr", "labelsTr", "more"):
        (root / folder).mkdir(parents=True)
    for number in range(CASES):
        image, label = draw(np.random.default_rng([7, number]), (20, 24, 16), 2, 1)
        write(root / "imagesTr" / f"c{number}_0000{ending}", image[..., 0])
        (write_label or write)(root / "labelsTr" / f"c{number}{ending if write_label is None else '.nii.gz'}", label)
    write(root / "more" / f"d0_0000{ending}", image[..., 0])
    write(root / "more" / f"d1_0000{ending}", image[..., 0])
    broken = root / "more" / f"d1_0000{ending}"
    for file in sorted(broken.iterdir()) if broken.is_dir() else [broken]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "numTraining": CASES}
    (root / "dataset.json").write_text(json.dumps(description | {"file_ending": ending}))
    return root


def tiff_volume(path: Path, voxels: np.ndarray) -> None:
    planted.tiff(path, voxels.T)
    path.with_name(path.stem.removesuffix("_0000") + ".json").write_text('{"spacing": [2.0, 1.0, 1.0]}')


def dicom(root: Path) -> Path:
    """Folders of series, their labels NIfTI."""
    (root / "more").mkdir(parents=True)
    for number in range(CASES):
        image, label = draw(np.random.default_rng([7, number]), (20, 24, 16), 2, 1)
        planted.dicom(root / "images" / f"c{number}", image[..., 0])
        grid = read_image(root / "images" / f"c{number}")
        write_mask(root / "labels" / f"c{number}.nii.gz", label, like=grid)
    planted.dicom(root / "more" / "d0", image[..., 0])
    return root


VOLUMES: dict[str, Callable[[Path], Path]] = {
    "nifti": lambda root: volumes(root, ".nii.gz", planted.nifti),
    "nifti 2": lambda root: volumes(root, ".nii", lambda path, x: planted.nifti(path, x, two=True, coded="qform")),
    "nrrd": lambda root: volumes(root, ".nrrd", planted.nrrd),
    "mha": lambda root: volumes(root, ".mha", planted.mha),
    "tiff": lambda root: volumes(root, ".tif", tiff_volume),
    "dicom": dicom,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", VOLUMES)
def test_a_volumes_header_reaches_no_output(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = VOLUMES[kind](tmp_path / "data")
    assert naming([data]), "the person is in the data"
    report = check(data, progress=False)
    assert not report.problems, report.problems
    layout: dict[str, Any] = {"data__classes": {"background": 0, "organ": 1}} if kind == "dicom" else {}
    config = tiny_config(data, training__max_epochs=1, training__iterations_per_epoch=1, **layout)
    run = train(config, run=tmp_path / "run")
    try:
        predict(run, input=data / "more", output=tmp_path / "out", probabilities=True, uncertainty=True)
    except PartialFailure as failure:
        print(failure)
    images = data / ("images" if kind == "dicom" else "imagesTr")
    for wanted in ("nifti", "nrrd", "mha"):
        predict(run, input=images, output=tmp_path / wanted, formats=[wanted])
    evaluate(run, output=tmp_path / "eval")
    print(report.text(), json.dumps(report.as_dict()))
    out, err = capfd.readouterr()
    written = [tmp_path / name for name in ("run", "out", "nifti", "nrrd", "mha", "eval")]
    assert all(any(folder.rglob("*.*")) for folder in written)
    assert not naming(written)
    assert not named((out + err).encode())


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_a_pictures_header_reaches_no_output(ending: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "data")
    write: Write = {".png": planted.png, ".jpg": planted.jpeg, ".tif": planted.tiff}[ending]
    for file in sorted((data / "images").rglob("*.png")):
        pixels = read_image(file).array.transpose(1, 2, 0)
        file.unlink()
        write(file.with_suffix(ending), pixels)
    for file in sorted((data / "masks").rglob("*.png")):
        planted.png(file, read_image(file).array[0])
    assert naming([data]), "the person is in the data"
    run = train(of_pairs(data, "training.max_iterations=1"), run=tmp_path / "run")
    predict(run, input=data / "images" / "test", output=tmp_path / "out", probabilities=True)
    evaluate(run, output=tmp_path / "eval")
    out, err = capfd.readouterr()
    assert not naming([tmp_path / name for name in ("run", "out", "eval")])
    assert not named((out + err).encode())


@pytest.mark.parametrize("coded", ["sform", "qform"])
@pytest.mark.parametrize("two", [False, True])
def test_a_written_header_is_the_geometry_and_nothing_else(tmp_path: Path, coded: str, two: bool) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    planted.nifti(tmp_path / "image.nii", voxels, two=two, coded=coded)
    assert named((tmp_path / "image.nii").read_bytes())
    write_mask(tmp_path / "mask.nii", voxels > 7, like=tmp_path / "image.nii")
    write_map(tmp_path / "map.nii.gz", voxels, 100, like=tmp_path / "image.nii")
    source = nib.load(tmp_path / "image.nii")
    for name in ("mask.nii", "map.nii.gz"):
        written: Any = nib.load(tmp_path / name)
        assert not named((tmp_path / name).read_bytes())
        assert type(written) is type(source)
        np.testing.assert_array_equal(written.affine, source.affine)
        for field in ("sform_code", "qform_code", "xyzt_units"):
            assert written.header[field] == source.header[field]
        np.testing.assert_array_equal(written.header["pixdim"][:4], source.header["pixdim"][:4])
        fresh = type(written)(np.asarray(written.dataobj, written.get_data_dtype()), None).header
        own = ("descrip", "cal_max", "intent_code", "intent_name", "scl_slope", "scl_inter", "vox_offset", "magic")
        for field in set(fresh.keys()) - set(own):
            if not field.startswith((*planted.GEOMETRY, "bitpix", "datatype")):
                np.testing.assert_array_equal(written.header[field], fresh[field], err_msg=field)


BROKEN = {
    "type.nrrd": f"NRRD0004\n# {TEXT}\ntype: {NAME}\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n",
    "encoding.nrrd": f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: {NAME}\n\n",
    "line.nrrd": f"NRRD0004\ntype: uint8\n{TEXT}\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n",
    "file.nrrd": f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {NAME}.raw\n\n",
    "type.mha": f"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = {NAME}\nElementDataFile = LOCAL\n",
    "file.mhd": f"ObjectType = Image\nNDims = 1\nDimSize = 8\nElementType = MET_UCHAR\nElementDataFile = {NAME}.raw\n",
    **{f"other{ending}": TEXT * 20 for ending in ENDINGS if ending != ".mhd"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_error_repeats_nothing_of_the_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(BROKEN[name])
    with pytest.raises(DataError) as caught:
        read_image(name)
    out, err = capfd.readouterr()
    assert name in str(caught.value)
    assert not named(str(caught.value).encode())
    assert not named((out + err).encode())


def test_check_warns_of_names_that_are_the_patients(tmp_path: Path) -> None:
    image, label = draw(np.random.default_rng(0), (20, 24, 4), 2, 1)
    for folder in ("case1", "quagmire_ZEBULON", f"{IDENTIFIER.lower()}", f"not-{IDENTIFIER}"):
        case = tmp_path / "data" / "images" / folder
        planted.dicom(case, image[..., 0])
        write_mask(tmp_path / "data" / "labels" / f"{folder}.nii.gz", label, like=read_image(case))
    slices = sorted((tmp_path / "data" / "images" / "case1").iterdir())
    slices[0].rename(slices[0].with_name("Zebulon-Quagmire.dcm"))
    findings = check(tmp_path / "data", progress=False).findings
    warned = {finding.file: finding.detail for finding in findings if finding.kind == "name of a patient"}
    assert warned == {
        "quagmire_ZEBULON": "is the PatientName inside",
        "qx7731z": "is the PatientID inside",
        "Zebulon-Quagmire": "is the PatientName inside",
    }
