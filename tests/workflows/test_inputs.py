"""Data of every layout and format: checked, planned, trained and predicted without an edit in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as Pillow

from medseg.bundle.facts import describe_data
from medseg.config.load import load_config
from medseg.core.errors import ConfigError
from medseg.data.files.images import read_image
from medseg.engine.sidecar import read_sidecar
from medseg.workflows.check import check
from medseg.workflows.plan import plan
from medseg.workflows.predict import predict
from medseg.workflows.train import train
from tests.conftest import draw
from tests.dicom import SECRET, write_series
from tests.dicom_files import image_tags, write

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
QUICK = ["network.widths=[4, 8]", "training.max_iterations=2", "training.iterations_per_epoch=2"]
CASES = 4


def drawn(number: int, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Image (x, y, z, channels) int16 and label (x, y, z) uint8 of one case."""
    return draw(np.random.default_rng([7, number]), (20, 24, 16), 2, channels)


def nifti(path: Path, voxels: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return path.name


def make_list(root: Path) -> Path:
    """Two channels, CT and PET, two visits of each of two patients."""
    lines = ["case,patient,image_CT,image_PET,label"]
    for number in range(CASES):
        image, label = drawn(number, 2)
        files = [nifti(root / f"{number}_{n}.nii.gz", image[..., n]) for n in range(2)]
        lines.append(",".join([f"visit{number}", f"p{number // 2}", *files, nifti(root / f"{number}.nii.gz", label)]))
    (root / "cases.csv").write_text("\n".join(lines) + "\n")
    return root / "cases.csv"


def make_bids(root: Path) -> Path:
    for number in range(CASES):
        image, label = drawn(number, 2)
        name = f"sub-{number:02d}"
        for n, suffix in enumerate(("T1w", "FLAIR")):
            nifti(root / name / "anat" / f"{name}_{suffix}.nii.gz", image[..., n])
        nifti(root / "derivatives/manual" / name / "anat" / f"{name}_label-lesion_mask.nii.gz", label)
    return root


def make_dicom(root: Path) -> Path:
    """A series a case, and labels on the grid that SimpleITK reads."""
    (root / "labels").mkdir(parents=True)
    for number in range(CASES):
        image, label = drawn(number)
        folder = write_series(root / "images" / f"ct{number}", image[..., 0].T)
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        grid = reader.Execute()
        mask = SimpleITK.GetImageFromArray(label.T)
        mask.CopyInformation(grid)
        SimpleITK.WriteImage(mask, str(root / "labels" / f"ct{number}.nii.gz"))
    return root


def make_itk(root: Path, ending: str) -> Path:
    """nnU-Net raw, NRRD or MetaImage."""
    return _nnunet(root, ending, lambda path, voxels: _write_itk(path, voxels))


def _write_itk(path: Path, voxels: np.ndarray) -> None:
    image = SimpleITK.GetImageFromArray(voxels.T)
    image.SetSpacing((1.0, 1.0, 2.0))
    SimpleITK.WriteImage(image, str(path))


def make_tiff(root: Path) -> Path:
    """nnU-Net raw, TIFF volumes with their spacing beside them."""

    def write(path: Path, voxels: np.ndarray) -> None:
        tifffile.imwrite(path, voxels.T)
        path.with_name(path.stem.removesuffix("_0000") + ".json").write_text('{"spacing": [2.0, 1.0, 1.0]}')

    return _nnunet(root, ".tif", write)


def make_flat_tiff(root: Path) -> Path:
    """nnU-Net raw, TIFF pictures."""
    return _nnunet(root, ".tiff", lambda path, voxels: tifffile.imwrite(path, voxels[:, :, 8]))


def _nnunet(root: Path, ending: str, write: Callable[[Path, np.ndarray], None]) -> Path:
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for number in range(CASES):
        image, label = drawn(number)
        write(root / "imagesTr" / f"c{number}_0000{ending}", image[..., 0])
        write(root / "labelsTr" / f"c{number}{ending}", label)
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "numTraining": CASES}
    (root / "dataset.json").write_text(json.dumps(description | {"file_ending": ending}))
    return root


def make_pictures(root: Path) -> Path:
    """Folders of pictures, masks of black and white."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(CASES):
        image, label = drawn(number, 3)
        Pillow.fromarray(image[:, :, 8].clip(0, 255).astype(np.uint8)).save(root / "images" / f"p{number}.png")
        Pillow.fromarray(label[:, :, 8] * 255).save(root / "masks" / f"p{number}.png")
    return root


MADE: dict[str, tuple[Callable[[Path], Path], int]] = {
    "csv": (make_list, 2),
    "bids": (make_bids, 2),
    "dicom": (make_dicom, 1),
    "nrrd": (lambda root: make_itk(root, ".nrrd"), 1),
    "mha": (lambda root: make_itk(root, ".mha"), 1),
    "tiff volumes": (make_tiff, 1),
    "tiff pictures": (make_flat_tiff, 1),
    "pictures": (make_pictures, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MADE)
def test_plans_trains_and_predicts_without_an_edit(kind: str, tmp_path: Path) -> None:
    make, channels = MADE[kind]
    root = make(tmp_path / "data")
    if kind != "pictures":  # what a picture's mask means, `check` wants to be told by a card
        assert not [finding for finding in check(root, progress=False).findings if finding.level == "error"]
    config = plan(root, output=tmp_path / "plan.yaml", minutes=0.05, overrides=QUICK).config
    run = train(config, run=tmp_path / "run")
    masks = predict(run, input=root, output=tmp_path / "masks")
    assert len(masks) == CASES
    assert json.loads((run / "eval" / "metrics.json").read_text())["cases"] >= 1
    assert len(json.loads((run / "data.json").read_text())["channels"]) == channels
    if kind == "csv":  # one patient is trained on, the other held out, each with both visits
        assert json.loads((run / "eval" / "metrics.json").read_text())["cases"] == 2
        assert config.preprocessing.normalization == ["ct", "zscore"]
        assert config.preprocessing.ct_mean_std is not None
    if kind == "dicom":
        assert config.preprocessing.normalization == "ct"
        (mask,) = predict(run, input=root / "images" / "ct2", output=tmp_path / "one")
        assert np.allclose(nib.load(mask).affine, nib.load(root / "labels" / "ct2.nii.gz").affine, atol=1e-3)
        assert read_image(mask).shape == (20, 24, 16)
        study, like = tmp_path / "study", read_image(mask).array
        shutil.copytree(root / "images" / "ct2", study / "scan")
        survey = image_tags(np.ones((4, 4), np.uint16), series="9", kinds="ORIGINAL\\PRIMARY\\LOCALIZER")
        write(study / "survey" / "0.dcm", survey)
        packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", study))
        for place in (study, packed):
            (other,) = predict(run, input=place, output=tmp_path / "one")
            assert np.array_equal(read_image(other).array, like)
        warnings = read_sidecar(tmp_path / "one", "packed")["warnings"]
        assert "left out: CT of 1, axial, localiser (survey/0.dcm)" in warnings
        assert len(warnings) == 2, "and these intensities are no HU"
        assert "HU" in " ".join(warnings)
        left = [f for folder in (run, tmp_path / "one") for f in folder.rglob("*") if f.is_file()]
        assert not [file for file in left if SECRET.encode() in file.read_bytes()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["normalization=[ct, zscore, zscore]"],
            r"names 3, but the images have 2 channel\(s\): CT, PET",
        ),
        (["normalization=[ct, zscored]"], "normalization"),
        (["ct_mean_std=[40, 0]"], "the deviation must be above 0"),
    ],
)
def test_a_normalisation_that_fits_no_channel_is_refused(tmp_path: Path, given: list[str], message: str) -> None:
    (tmp_path / "c.yaml").write_text("name: c\n")
    overrides = [f"data.root={make_list(tmp_path)}", "data.classes={background: 0, organ: 1}"]
    with pytest.raises(ConfigError, match=message):
        describe_data(load_config(tmp_path / "c.yaml", [*overrides, *(f"preprocessing.{one}" for one in given)]))
