from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medseg.core.errors import DataError, Problem
from medseg.core.files import WRITING
from medseg.core.labels import Labels
from medseg.data.cases.case import Case
from medseg.engine.cohort import FAILURES, SaveMaskd, write_failures
from medseg.engine.maps import SaveMapsd
from medseg.engine.outputs import pending_cases, say_unfinished
from medseg.engine.sidecar import read_sidecar


def test_a_map_never_takes_the_place_of_another_cases_mask(tmp_path: Path) -> None:
    cases = [Case(name, (f"{name}.nii.gz",)) for name in ("a", "a_probability_b")]
    assert pending_cases(cases, str(tmp_path), maps=["entropy"]) == cases
    with pytest.raises(DataError, match="a_probability_b_probability_c"):
        pending_cases(cases, str(tmp_path), maps=["probability_b_probability_c", "probability_c"])


OURS = json.dumps({"case": "a", "model": {}, "volume_ml": {"tumour": 1.0}})
OTHERS = json.dumps({"Modality": "MR", "SeriesDescription": "t1"})
LABELS = Labels({"background": 0, "tumour": 1})


def predict(image: Path, out: Path, name: str = "a", maps: Sequence[str] = ("probability_tumour",)) -> None:
    """The steps that write, as an inference has them."""
    case = {"case": name, "image_path": str(image), "native_affine": torch.eye(4), "native_shape": (4, 5, 6)}
    case |= {"image": MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.eye(4)), "pred": torch.zeros(2, 4, 5, 6)}
    case = SaveMapsd(str(out), LABELS, names=maps, probabilities=True)(case)
    SaveMaskd(str(out), LABELS)({**case, "pred": torch.zeros(1, 4, 5, 6, dtype=torch.uint8)})


@pytest.fixture
def image(tmp_path: Path) -> Path:
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


def older(out: Path, name: str = "a", sidecar: str = OURS) -> Path:
    """A case as an older version wrote it: all beside the mask."""
    out.mkdir(exist_ok=True)
    for file in (f"{name}.nii.gz", f"{name}_probability_tumour.nii.gz"):
        (out / file).write_bytes(b"older")
    (out / f"{name}.json").write_text(sidecar)
    return out


def names(out: Path) -> list[str]:
    return sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())


NEW = ["a.nii.gz", "medseg/a.json", "medseg/a_probability_tumour.nii.gz"]


def test_what_an_older_version_wrote_beside_the_mask_goes_when_it_is_written_anew(image: Path, tmp_path: Path) -> None:
    out = older(older(tmp_path / "out"), "b")
    kept = [name for name in names(out) if name.startswith("b")]
    predict(image, out)
    assert names(out) == sorted([*NEW, *kept]), "another case's stay"


@pytest.mark.parametrize("sidecar", [OTHERS, "[]", "{damaged", '"text"'])
def test_another_programs_files_stay(sidecar: str, image: Path, tmp_path: Path) -> None:
    out = older(tmp_path / "out", sidecar=sidecar)
    with pytest.raises(DataError, match=r"a\.nii\.gz: is there already, and medseg did not write it"):
        predict(image, out)
    assert (out / "a.nii.gz").read_bytes() == b"older"
    assert not list(out.rglob(f"{WRITING}*"))
    (out / "a.nii.gz").unlink()
    predict(image, out)
    assert names(out) == sorted([*NEW, "a.json", "a_probability_tumour.nii.gz"])
    assert (out / "a.json").read_text() == sidecar
    assert read_sidecar(out, "a")["case"] == "a"
    (out / "medseg" / "a.json").unlink()
    assert read_sidecar(out, "a") == {}


def test_the_mask_of_a_case_that_is_named_as_a_map_stays(image: Path, tmp_path: Path) -> None:
    out = older(tmp_path / "out")
    (out / "a_probability_tumour.nii.gz").unlink()  # of the case a, as its older sidecar says
    predict(image, out, "a_probability_tumour", maps=())
    predict(image, out)
    assert (out / "a_probability_tumour.nii.gz").read_bytes() != b"older"


@pytest.mark.parametrize(
    ("text", "goes"), [("case,reason\na,damaged\n", True), ("case;reason\n", False), ("", False), ("mine\n", False)]
)
def test_an_older_table_of_failures_goes(text: str, goes: bool, tmp_path: Path) -> None:
    (tmp_path / FAILURES).write_text(text)
    for folder in (tmp_path / "eval", tmp_path / "medseg"):
        write_failures(folder, [Problem("b", "damaged")])
        assert (tmp_path / FAILURES).exists() == (not goes or folder.name == "eval")
        assert (folder / FAILURES).read_text() == "case,reason\nb,damaged\n"


@pytest.mark.parametrize("state", ["none", "older", "damaged", "others"])
def test_a_mask_without_its_sidecar_is_not_done(state: str, image: Path, tmp_path: Path) -> None:
    out, cases = tmp_path / "out", [Case("a", (str(image),))]
    assert pending_cases(cases, str(out)) == cases
    predict(image, out)
    assert pending_cases(cases, str(out), maps=["probability_tumour"]) == []
    sidecar = out / "medseg" / "a.json"
    if state == "damaged":
        sidecar.write_text("{")
    else:
        sidecar.unlink()
    if state in ("older", "others"):
        (out / "a.json").write_text(OURS if state == "older" else OTHERS)
    if state in ("none", "others"):
        with pytest.raises(DataError, match="medseg did not write it"):
            pending_cases(cases, str(out))
        return
    assert pending_cases(cases, str(out)) == ([] if state == "older" else cases)
    assert bool(say_unfinished(pending_cases(cases, out), out)) == (state == "damaged")
