"""`predict --format bids`: a derivative data set, valid, read back, and continued where it stopped."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.core.errors import DataError, PartialFailure
from medseg.data.cases.dataset import read_dataset
from medseg.workflows.predict import predict
from medseg.workflows.score import score

VALIDATORS = ("bids-validator-deno", "bids-validator")
NAMES = ("sub-01_ses-1_acq-x_T1w", "case_7", "sub-02_space-MNI_desc-preproc_T1w")


@pytest.fixture(scope="module")
def images(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of two channels, named by BIDS or otherwise."""
    folder = tmp_path_factory.mktemp("images")
    source = sorted((trained[1] / "imagesTs").iterdir())[0]
    for name in NAMES:
        shutil.copy(source, folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def written(trained: tuple[Path, Path], images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is predicted of them; read only."""
    out = tmp_path_factory.mktemp("bids") / "masks"
    wishes = {"formats": ["bids", "auto"], "probabilities": True}
    masks = predict(trained[0], input=images, output=out, **wishes)
    assert masks == [
        out / "sub-caseZ5F7/anat/sub-caseZ5F7_dseg.nii.gz",
        out / "sub-01/ses-1/anat/sub-01_ses-1_acq-x_dseg.nii.gz",
        out / "sub-02/anat/sub-02_space-MNI_desc-preproc_dseg.nii.gz",
    ]
    return out


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.mark.slow
def test_masks_are_those_of_nifti_with_a_table_of_their_values(written: Path) -> None:
    for name, mask in zip(sorted(NAMES), sorted(written.rglob("*_dseg.nii.gz"), key=str), strict=True):
        plain, found = nib.load(written / f"{name}.nii.gz"), nib.load(mask)
        assert np.array_equal(np.asarray(plain.dataobj), np.asarray(found.dataobj)), name
        assert np.array_equal(plain.affine, found.affine)
    rows = table(written / "dseg.tsv")
    assert [(row["index"], row["name"]) for row in rows] == [("0", "background"), ("1", "organ"), ("2", "lesion")]
    sidecar = json.loads((written / "medseg/case_7.json").read_text())
    assert "sub-caseZ5F7/anat/sub-caseZ5F7_dseg.nii.gz" in sidecar["files"]


@pytest.mark.slow
def test_the_validator_of_bids_finds_no_error(written: Path, tmp_path: Path) -> None:
    given = os.environ.get("BIDS_VALIDATOR") or next(filter(None, map(shutil.which, VALIDATORS)), None)
    if given is None:
        pytest.skip(f"none of {', '.join(VALIDATORS)} is on the PATH, and BIDS_VALIDATOR names none")
    folders = os.pathsep.join([str(Path(given).parent), os.environ["PATH"]])  # it starts `deno`, which stands beside it
    settings = {"capture_output": True, "text": True, "env": os.environ | {"PATH": folders}, "timeout": 120}
    done = subprocess.run([given, str(written), "--format", "json"], **settings)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0, done.stderr
    broken = Path(shutil.copytree(written, tmp_path / "broken"))
    (broken / ".bidsignore").unlink()
    assert subprocess.run([given, str(broken), "--format", "json"], **settings).returncode != 0


@pytest.mark.slow
def test_what_is_written_is_read_back(written: Path, trained: tuple[Path, Path], tmp_path: Path) -> None:
    """By `check` beside its images, and by `score` against labels of other names."""
    for name in ("01", "02"):
        target = tmp_path / f"data/sub-{name}/anat/sub-{name}_T1w.nii.gz"
        target.parent.mkdir(parents=True)
        shutil.copy(written / "case_7.nii.gz", target)
    source, out = two_channels(trained, tmp_path / "in"), tmp_path / "data/derivatives/m"
    predict(trained[0], input=source, output=out, formats=["bids"])
    found = read_dataset(tmp_path / "data")
    assert (found.layout, len(found.cases)) == ("bids", 2)
    assert dict(found.labels.classes) == {"background": 0, "organ": 1, "lesion": 2}
    (tmp_path / "truth").mkdir()
    for name in NAMES:
        shutil.copy(written / f"{name}.nii.gz", tmp_path / "truth")
    alone = Path(shutil.copytree(written, tmp_path / "alone"))
    for file in alone.glob("*.nii.gz"):
        file.unlink()
    report = score(alone, tmp_path / "truth", dataset=str(trained[0]), workers=1, progress=False)
    assert (report.as_dict()["cases"], report.problems, report.without_truth) == (3, (), ())
    with pytest.raises(DataError, match=r"holds labels of BIDS, but no images"):
        read_dataset(alone)


def two_channels(trained: tuple[Path, Path], folder: Path) -> Path:
    folder.mkdir()
    source = sorted((trained[1] / "imagesTs").iterdir())[0]
    for name in ("sub-01", "sub-02"):
        shutil.copy(source, folder / f"{name}.nii.gz")
    return folder


@pytest.mark.slow
def test_it_goes_on_and_replaces_nothing_of_others(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, out = trained[0], tmp_path / "out"
    wishes = {"input": two_channels(trained, tmp_path / "in"), "output": out, "formats": ["bids"]}
    first, second = predict(run, **wishes)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.rglob("*") if file.is_file()}
    second.unlink()
    predict(run, **wishes)
    assert {file: file.read_bytes() for file in before} == {file: content for file, (_, content) in before.items()}
    assert first.stat().st_mtime_ns == before[first][0]
    first.write_bytes(b"mine")
    with pytest.raises(PartialFailure, match="changed since medseg wrote it"):
        predict(run, **wishes)
    assert first.read_bytes() == b"mine"
    (out / "dseg.tsv").write_text("index\tname\n1\tmine\n")
    with pytest.raises(DataError, match=r"dseg\.tsv: was changed since medseg wrote it"):
        predict(run, **wishes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("there", "what"),
    [
        ("dataset_description.json", "medseg did not write it"),
        ("dseg.tsv", "medseg did not write it"),
        ("sub-01/anat/sub-01_dseg.nii.gz", "medseg did not write it"),
        ("sub-01/", "is a link"),
    ],
)
def test_a_data_set_of_others_is_refused(there: str, what: str, trained: tuple[Path, Path], tmp_path: Path) -> None:
    out, source = tmp_path / "out", two_channels(trained, tmp_path / "in")
    (out / there).parent.mkdir(parents=True)
    if there.endswith("/"):
        (tmp_path / "elsewhere").mkdir()
        (out / "sub-01").symlink_to(tmp_path / "elsewhere")
    else:
        (out / there).write_text("{}")
    with pytest.raises(DataError, match=what):
        predict(trained[0], input=source, output=out, formats=["bids"])
    assert not [*tmp_path.glob("elsewhere/*"), *out.rglob("medseg/*")]


@pytest.mark.slow
def test_masks_of_other_classes_do_not_come_under_one_table(trained: tuple[Path, Path], tmp_path: Path) -> None:
    wishes = {"input": two_channels(trained, tmp_path / "in"), "output": tmp_path / "out", "formats": ["bids"]}
    predict(trained[0], **wishes)
    with pytest.raises(DataError, match=r"other classes than those that would be added"):
        predict(trained[0], coding="organ=7,lesion=9", **wishes)
    other = tmp_path / "other"
    predict(trained[0], coding="organ=7,lesion=9", **(wishes | {"output": other}))
    assert {row["name"]: row["index"] for row in table(other / "dseg.tsv")} == {
        "background": "0", "organ": "7", "lesion": "9",
    }  # fmt: skip


@pytest.mark.slow
def test_a_mask_by_other_options_does_not_stay_beside_the_new_one(trained: tuple[Path, Path], tmp_path: Path) -> None:
    wishes = {"input": two_channels(trained, tmp_path / "in"), "output": tmp_path / "out"}
    former = predict(trained[0], formats=["bids"], **wishes)
    assert predict(trained[0], formats=["bids", "nrrd"], **wishes) == former, "one more format"
    former[1].write_bytes(b"mine")
    new = predict(trained[0], formats=["auto"], coding="organ=7,lesion=9", **wishes)
    assert all(mask.is_file() for mask in new)
    assert not former[0].exists()
    assert former[1].read_bytes() == b"mine"


@pytest.mark.slow
def test_two_cases_of_one_name_are_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    source = two_channels(trained, tmp_path / "in")
    shutil.copy(source / "sub-01.nii.gz", source / "sub-01_T1w.nii.gz")
    with pytest.raises(DataError, match="would be the name of two: of sub-01 and of sub-01_T1w"):
        predict(trained[0], input=source, output=tmp_path / "out", formats=["bids"])
    assert not (tmp_path / "out").exists()
