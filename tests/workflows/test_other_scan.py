"""What a network was not trained on: refused where a header says it, warned of where intensities suggest it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medseg.bundle.facts import DataFacts
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.kinds import kind_of, like_ct, measured, other_scan, suspicions
from medseg.data.files.images import among_channels, read_image, write_mask
from medseg.data.training.transforms import LoadCased
from medseg.engine.cohort import SaveMaskd
from medseg.workflows.predict import other_scans
from tests.dicom import write_series
from tests.dicom_files import write_slices

LABELS = Labels({"background": 0, "lesion": 1})
BODY = np.random.default_rng(0).normal(40, 20, (6, 16, 16))
CT = np.where(np.arange(16) < 4, -1000, BODY).astype(np.int16)  # (z, y, x), with air
MR = np.abs(BODY).astype(np.int16)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[("CT", "CT"), ("ct_portal", "CT"), ("MRI", "MR"), ("T1w", "MR"), ("t2-FLAIR", "MR"), ("PET", "PT")],
        *[("image", None), ("0", None), ("PET/CT", None), ("contrast", None), ("ctscanner", None)],
    ],
)
def test_a_channel_s_name_tells_its_kind(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_a_run_knows_the_kind_of_each_channel() -> None:
    assert DataFacts("set", ("CT", "PET", "x"), LABELS).kinds == ("CT", "PT", None)
    assert DataFacts("set", ("0",), LABELS).kinds == (None,), "MR is what is written where nothing is known"
    assert DataFacts("set", ("0",), LABELS, "CT", source="a paper").kinds == ("CT",), "a card knows"


def test_a_series_of_another_kind_is_refused(tmp_path: Path) -> None:
    ct, mr = (write_series(tmp_path / kind, CT, modality=kind) for kind in ("CT", "MR"))
    other = write_slices(tmp_path / "OT", CT, modality="OT")  # GDCM writes no spacing for this kind
    cases = [Case(folder.name, (str(folder),)) for folder in (ct, mr, other)]
    (found,) = other_scans(cases, ["MR"])
    assert (found.where, found.what) == ("CT", "its DICOM header says CT, but the network was trained on MR")
    assert "--any-scan" in found.remedy
    assert [problem.where for problem in other_scans(cases, ["CT"])] == ["MR"]
    assert other_scans(cases, [None]) == []
    assert read_image(ct).kinds == ("CT",)
    assert read_image(other).kinds == ()


def test_intensities_are_suspected() -> None:
    assert like_ct(CT)
    assert not like_ct(MR)
    assert not like_ct((CT - 20) / 100)
    ct, mr, flat = (measured(volume[None].astype(np.float32)) for volume in (CT, MR, np.zeros((2, 2, 2))))
    assert suspicions(["CT"], ct) == suspicions(["MR"], mr) == suspicions([None], ct) == []
    assert "intensities of a CT" in suspicions(["MR"], ct)[0]
    assert "none is below 0" in suspicions(["CT"], mr)[0]
    assert suspicions(["MR", "MR"], [*mr, *flat]) == ["channel 1: every voxel is 0"]
    assert suspicions(["MR", "MR"], [*mr, *flat], missing=[1]) == []


def test_the_sidecar_says_it(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "scan", CT)
    case = LoadCased(keys=["image"])({"image": str(folder), "case": "scan"})
    pred = torch.zeros((1, *case["native_shape"]), dtype=torch.uint8)
    for kinds, expected in ((["CT"], None), (["MR"], 2), ([], None)):
        save = SaveMaskd(str(tmp_path / f"out{kinds}"), LABELS, kinds=kinds)
        done = save({**case, "pred": pred, "image_path": str(folder)})
        sidecar = json.loads((tmp_path / f"out{kinds}/medseg/scan.json").read_text())
        assert sidecar.get("warnings") == (done["warnings"] or None)
        assert (len(done["warnings"]) or None) == expected


def test_a_zip_of_another_kind_is_refused_too(tmp_path: Path) -> None:
    for kind in ("CT", "MR"):
        shutil.make_archive(str(tmp_path / kind), "zip", write_series(tmp_path / "series" / kind, CT, modality=kind))
    cases = [Case(kind, (str(tmp_path / f"{kind}.zip"),)) for kind in ("CT", "MR")]
    (found,) = other_scans(cases, ["MR"])
    assert (found.where, found.what) == ("CT", "its DICOM header says CT, but the network was trained on MR")
    (tmp_path / "MR.zip").write_bytes(b"PK damaged")
    assert [problem.where for problem in other_scans(cases, ["PT"])] == ["CT"], "a damaged one is said where it is read"


def test_each_channel_has_a_kind_of_its_own(tmp_path: Path) -> None:
    ct, mr, pt = (str(write_series(tmp_path / kind, CT, modality=kind)) for kind in ("CT", "MR", "PT"))
    plain = str(tmp_path / "plain.nii.gz")
    write_mask(plain, (CT > 0).astype(np.uint8).T, like=ct)
    for files, kinds in (
        ([ct, pt], ("CT", "PT")),
        ([None, pt], (None, "PT")),
        ([plain, mr], (None, "MR")),
        ([ct, None, plain], ("CT", None, None)),
        ([plain, plain], ()),
        ([plain, None], ()),
    ):
        image = read_image(files)
        assert image.kinds == kinds
        assert len(image.array) == len(files)
    assert among_channels(read_image([ct, pt]), (2, 0), 3).kinds == ("PT", None, "CT")
    for files, wrong in (([ct, mr], 1), ([pt, ct], 0), ([None, mr], 1), ([mr, None], 0)):
        why = other_scan(read_image(files).kinds, ["CT", "PT"])
        assert why.startswith(f"channel {wrong}: its DICOM header says")
        (found,) = other_scans([Case("a", tuple(files))], ["CT", "PT"])
        assert found.what == why, "before it is read, and after"
        case = LoadCased(keys=["image"], missing=True)({"image": files, "case": "a"})
        save = SaveMaskd(str(tmp_path / "out"), LABELS, kinds=["CT", "PT"], channels=["ct", "pet"])
        pred = torch.zeros((1, *case["native_shape"]), dtype=torch.uint8)
        assert why in save({**case, "pred": pred, "image_path": ct})["warnings"]
    for files in ([ct, pt], [None, pt], [ct, None], [plain, pt]):
        assert other_scan(read_image(files).kinds, ["CT", "PT"]) == ""
        assert other_scan(read_image(files).kinds, [None, None]) == ""


def test_the_doubts_of_each_channel_are_said(tmp_path: Path) -> None:
    for name, affine in (
        ("sure", np.eye(4)),
        ("doubtful", np.diag([2.0, 2, 3, 1])),
        ("other", np.diag([4.0, 4, 3, 1])),
    ):
        image = nibabel.Nifti1Image(np.zeros((8, 8, 6), np.int16), None)
        image.set_sform(affine, 1)
        image.header["pixdim"][1:4] = 1
        image.to_filename(tmp_path / f"{name}.nii")
    sure, doubtful, other = (str(tmp_path / f"{name}.nii") for name in ("sure", "doubtful", "other"))
    (one,), (two,) = read_image(doubtful).doubts, read_image(other).doubts
    assert one != two
    for files, doubts in (
        ([sure, sure], ()),
        ([doubtful, sure], (one,)),
        ([sure, doubtful], (one,)),
        ([None, doubtful], (one,)),
        ([doubtful, doubtful], (one,)),
        ([sure, doubtful, other], (one, two)),
    ):
        assert read_image(files).doubts == doubts
