"""What a network was not trained on: refused where a header says it, warned of where intensities suggest it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.bundle.facts import DataFacts
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.data.cases.kinds import kind_of, like_ct, measured, suspicions
from medseg.data.files.images import read_image
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
