"""C and F: outputs destroy inputs, pass for what they are not, or say what they should not."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import SimpleITK

from tests import planted
from tests.campaign.faults.case import Case, Fault, lost, state, volume

MASK = "tiny_04.nii.gz"


def _into_its_input(case: Case) -> str | None:
    scans = case / "data/imagesTs"
    before = state(scans)
    case.predict(scans, scans, "--overwrite")
    return lost(before, scans)


def _scans_in_the_output(case: Case) -> str | None:
    """Input and output are swapped: what lies there counts as predicted."""
    shutil.copytree(case / "data/imagesTs", case / "new")
    outcome = case.predict("data/imagesTs", "new")
    return "scans pass for masks" if outcome.code == 0 else None


def _labels_in_the_output(case: Case) -> str | None:
    case.predict("data/imagesTr", "data/labelsTr")
    outcome = case.outcomes[-1]
    return "labels pass for masks" if outcome.code == 0 else None


def _sidecar(case: Case) -> str | None:
    """What a converter of DICOM wrote beside the image, in the folder of the masks."""
    (case / "new").mkdir()
    (case / "new/tiny_04.json").write_text(json.dumps({"Modality": "MR", "EchoTime": 0.003}))
    before = state(case / "new")
    case.predict("data/imagesTs", "new")
    return lost(before, case / "new")


def _two_forms(case: Case) -> str | None:
    image = nib.load(case / "data/imagesTs" / MASK)
    (case / "two").mkdir()
    nib.save(image, case / "two/a.nii")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), case / "two/a.nii.gz")
    outcome = case.predict("two", "new")
    return "two inputs, one mask" if outcome.code == 0 and len(list((case / "new").glob("*.nii*"))) < 2 else None


def _two_sites(case: Case) -> str | None:
    for site in ("siteA", "siteB"):
        (case / "data" / site).mkdir()
        shutil.copy(case / "data/imagesTs" / MASK, case / "data" / site / "1.nii.gz")
    case.described(test=["./siteA/1.nii.gz", "./siteB/1.nii.gz"], numTest=2)
    outcome = case.predict("data", "new")
    return "two inputs, one mask" if outcome.code == 0 and len(list((case / "new").glob("*.nii*"))) < 2 else None


def _counts_as_mask(content: str, case: Case) -> str | None:
    """Whatever lies in the place of a mask counts as one that is finished."""
    case.predict("data/imagesTs", "new")
    mask = case / "new" / MASK
    if content == "nothing":
        mask.write_bytes(b"")
    elif content == "another shape":
        volume(mask, (4, 4, 4), fill=0)
    else:
        for file in (case / "run/models").iterdir():
            shutil.copy(case / "folds/fold_0/models" / file.name, file)
    before = mask.read_bytes()
    outcome = case.predict("data/imagesTs", "new")
    return "counts as finished" if outcome.code == 0 and mask.read_bytes() == before else None


def _broken_sidecar(case: Case) -> str | None:
    case.predict("data/imagesTs", "new")
    sidecar = next((case / "new").rglob("tiny_04.json"))
    sidecar.write_bytes(sidecar.read_bytes()[:40])
    return None if case.predict("data/imagesTs", "new").code == 0 else "no predict goes on"


def _table(case: Case) -> str | None:
    case.predict("data/imagesTs", "new")
    case.predict("data/imagesTr/tiny_00.nii.gz", "new")
    text = (case / "new/volumes.csv").read_text()
    return None if "tiny_04" in text and "tiny_00" in text else "rows of the call before are gone"


def _header(case: Case) -> str | None:
    """A person in the header: in what is written."""
    for file in (case / "data/imagesTs").iterdir():
        voxels = np.asarray(nib.load(file).dataobj)
        planted.nifti(file, voxels.astype(np.float32))
    case.predict("data/imagesTs", "new")
    for file in [file for file in (case / "new").rglob("*") if file.is_file()]:
        content = file.read_bytes()
        raw = nib.load(file) if file.name.endswith(".nii.gz") else None
        said = content + (bytes(raw.header.binaryblock) + repr(raw.header.extensions).encode() if raw else b"")
        if any(word.encode() in said.lower() for word in planted.WORDS) or planted.SHORT in said:
            return f"in {file.name}"
    return None


def _patient(case: Case) -> str | None:
    """The name of a series is the patient's."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(next((case / "series/case").iterdir())))
    reader.ReadImageInformation()
    name = reader.GetMetaData("0010|0010").strip()
    (case / "clinic/labels").mkdir(parents=True)
    (case / "clinic/images").mkdir()
    shutil.move(case / "series/case", case / "clinic/images" / name)
    series = SimpleITK.ImageSeriesReader()
    series.SetFileNames(series.GetGDCMSeriesFileNames(str(case / "clinic/images" / name)))
    label = SimpleITK.Cast(series.Execute() > 0, SimpleITK.sitkUInt8)
    SimpleITK.WriteImage(label, str(case / "clinic/labels" / f"{name}.nii.gz"))
    outcome = case.ask("check", "clinic")
    return None if "PatientName" in outcome.out + outcome.err else "check does not warn"


def _formula(case: Case) -> str | None:
    scan = case / "data/imagesTs" / MASK
    scan.rename(scan.with_name("=1+2.nii.gz"))
    case.predict("data/imagesTs", "new")
    with (case / "new/volumes.csv").open(newline="") as file:
        return "a cell begins with =" if any(cell.startswith("=") for row in csv.reader(file) for cell in row) else None


def _mathematics(case: Case) -> str | None:
    case.described(labels={"0": "background", "1": "organ $\\frac$", "2": "lesion"})
    return None if (found := case.train()).code == 0 else f"exit {found.code}"


FAULTS = (
    Fault("C", "predict into its input replaces the scans", _into_its_input, ("run",)),
    Fault("C", "scans in the output count as masks", _scans_in_the_output, ("run",)),
    Fault("C", "--output labelsTr counts labels as masks", _labels_in_the_output, ("run",)),
    Fault("C", "a sidecar replaces another program's", _sidecar, ("run",)),
    Fault("C", "a.nii and a.nii.gz: one mask", _two_forms, ("run",)),
    Fault("C", "siteA/1 and siteB/1: one mask", _two_sites, ("run",)),
    *(Fault("C", f"{what}, in the place of a mask, is finished", lambda case, what=what: _counts_as_mask(what, case),
            ("run", "folds")) for what in ("nothing", "another shape", "that of another run")),
    Fault("C", "half a sidecar ends every later predict", _broken_sidecar, ("run",)),
    Fault("C", "volumes.csv holds the last call alone", _table, ("run",)),
    Fault("F", "text of a NIfTI header reaches masks", _header, ("run",)),
    Fault("F", "check does not say that a folder is a patient's name", _patient, ("series",)),
    Fault("F", "a cell of a table is a formula", _formula, ("run",)),
    Fault("F", "Matplotlib reads mathematics in a name", _mathematics, slow=True),
)  # fmt: skip
